"The bench of the paper's setting, whole, on trees in the public layouts"
from conftest import *
from fastcore.script import CliError
from benchmarks import lape
from trees import Maker, commands, esc50, fsd50k, gtzan

@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    m = Maker(tmp_path_factory.mktemp('trees'))
    commands(m, 2)
    fsd50k(m)
    gtzan(m)
    return m.root

@pytest.fixture
def run(trees, files, tmp_path, monkeypatch):
    "Two recipes of a few steps and an untrained encoder on two tasks"
    monkeypatch.setitem(lape.recipes, 'ours', (model_kw, {}, Learner.fit_one_cycle))
    monkeypatch.setitem(lape.recipes, 'paper', ({**lape_preset, **model_kw, 'queue_size':64, 'bank_size':64}, dict(level=None, windows=1), Learner.fit))
    (tmp_path/'list.txt').write_text('\n'.join([*map(str, files[::5]), 'gone.wav']))
    def go(**kwargs):
        args = dict(pretrain=f"{trees/'FSD50K/FSD50K.dev_audio'} | {tmp_path/'list.txt'}", tasks=trees, keep=tmp_path/'keep', out=tmp_path/'t.csv',
                    only='commands2-35 nsynth', clips=24, bs=4, arch_kwargs='d=16 width=4', limit=40)
        lape.main(**{**args, **kwargs})
        return pd.read_csv(tmp_path/'t.csv', index_col=0)
    return go

def test_whole_way(run, files, tmp_path, capsys):
    table = run()
    out = capsys.readouterr().out
    assert list(table.index)==['paper','ours','untrained'] and list(table.columns)==['source','commands2-35','average']
    assert f'1 of {len(files[::5])+1} files are not there' in out and 'nsynth is left out' in out
    assert table['commands2-35'].between(0, 100).all() and (table.source=='this run').all()
    encoders = [AudioEncoder.from_pretrained(tmp_path/f'keep/{name}/encoder') for name in ('paper','ours')]
    assert encoders[0].pool=='max+mean' and encoders[1].changes=={'fc1':(3,6)}

def test_goes_on_where_it_was(run, monkeypatch):
    "What is there is neither trained nor embedded again"
    first = run(runs='ours')
    monkeypatch.setattr(lape, 'SlicerLearner', None)
    monkeypatch.setattr(lape, 'benchmark', None)
    assert run(runs='ours').equals(first)

def test_published_figures_need_a_source(run, tmp_path):
    (tmp_path/'p.csv').write_text('encoder,source,commands2-35\nA,a paper,80.1\n')
    table = run(runs='untrained', published=tmp_path/'p.csv')
    assert table.loc['A','commands2-35']==80.1 and table.loc['A','source']=='a paper'
    (tmp_path/'p.csv').write_text('encoder,source,commands2-35\nA,,80.1\n')
    with pytest.raises(CliError, match='no source is given for A'): run(runs='untrained', published=tmp_path/'p.csv')

def test_missing_data_are_named(run, tmp_path):
    with pytest.raises(CliError, match='nowhere is not there'): run(pretrain='nowhere')
    with pytest.raises(CliError, match='holds none of the data sets'): run(tasks=tmp_path, only='nsynth')
