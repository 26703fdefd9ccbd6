"The benches of fine-tuning and of search, on a tiny folder laid out as they want it"
import pytest
from conftest import *
from benchmarks import finetune, hear

@pytest.fixture
def corpus(files, tmp_path):
    fs = [f for i,f in enumerate(files) if i//6<6]
    (tmp_path/'tasks').mkdir()
    split,group = zip(*[(('train','train','test')[i%3],f'g{i%6}') for i in range(len(fs))])
    pd.DataFrame(dict(path=fs, label=[f.parent.name for f in fs], split=split, group=group)).to_csv(
        tmp_path/'tasks'/'kinds.csv', index=False)
    AudioEncoder('audiontt', **encoder_kw).save_pretrained(tmp_path/'enc')
    return tmp_path

def test_finetune_writes_a_row_a_run_and_goes_on(corpus, monkeypatch, capsys):
    args = dict(data=corpus, encoder=str(corpus/'enc'), shots='2 all', seeds=1, epochs=1, out=corpus/'f.csv')
    finetune.main(**args)
    df = pd.read_csv(corpus/'f.csv', dtype=str)
    assert Counter(df.way)==dict(probe=2, scratch=2, finetune=2) and df.accuracy.astype(float).between(0, 100).all()
    task,enc = finetune.tasks(corpus)['kinds'],AudioEncoder.from_pretrained(corpus/'enc')
    order = draw_shots(task['train'][1], 'all', 0).tolist()
    train = [[o[i] for i in order] for o in task['train']]
    want = dict(probe=linear_probe(enc, train, task['test']), finetune=Supervised(enc, 1, seed=0).fit_test(train, task['test']))
    for way,r in want.items(): assert df.accuracy[(df.way==way)&(df.shots=='all')].astype(float).tolist()==[round(100*r, 2)], way
    monkeypatch.setattr(finetune, 'run', None)                                  # whatever is there is not run again
    finetune.main(**args); assert 'average' in capsys.readouterr().out

def test_hear_counts_what_comes_back(corpus, capsys):
    hear.main(data=corpus, encoder=str(corpus/'enc'), every=3, show=2, out=corpus/'h.csv')
    df = pd.read_csv(corpus/'h.csv')
    assert set(df.encoder)=={'trained','untrained'} and df.right_of_5.between(0, 100).all() and df.right_task.eq(100).all()
    assert df.questions.sum()==2*4 and capsys.readouterr().out.count('?')>=2
