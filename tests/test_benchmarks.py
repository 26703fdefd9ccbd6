"The benches of accuracy run on any folder laid out as they say, and go on where they stopped"
import json
import numpy as np, pandas as pd, pytest
from fastcore.script import CliError
from fastai.callback.fp16 import MixedPrecision
from slicer_fastai.all import get_audio_files
from benchmarks import ablate, recipe, supervised

@pytest.fixture(scope='module')
def corpus(sounds, tmp_path_factory):
    "A folder laid out as the benches want it: pretrain.csv and one task with a split and groups"
    d,fs = tmp_path_factory.mktemp('corpus'),get_audio_files(sounds)
    (d/'tasks').mkdir()
    pd.DataFrame(dict(files=fs)).to_csv(d/'pretrain.csv', index=False)
    split = lambda i: ('train','train','valid','test')[i%4]
    pd.DataFrame(dict(path=fs, label=[f.parent.name for f in fs], split=[split(i) for i in range(len(fs))],
                      group=[f'g{i%4}{i//4%3}' for i in range(len(fs))])).to_csv(d/'tasks'/'classes.csv', index=False)
    return d

SMALL = json.dumps(dict(arch_kwargs=dict(d=32, width=8), bs=16, num_workers=0, lr=2e-3))

def test_ablate_trains_probes_and_resumes(corpus, tmp_path, monkeypatch):
    args = dict(data=corpus, passes=1, seeds=2, out=tmp_path/'a.csv', base=SMALL, switch=['tfms=crop', 'preset=lape', 'passes=0'], keep=tmp_path/'enc')
    ablate.main(**args)
    df = pd.read_csv(tmp_path/'a.csv', keep_default_na=False, dtype=dict(run=str))
    assert len(df)==8 and df.lr.eq(2e-3).all() and df.average.between(0, 100).all() and (tmp_path/'a.png').stat().st_size>1000
    assert df[df.passes==0].clips.eq(0).all() and {o.name for o in (tmp_path/'enc').iterdir()}==set(df.run)
    assert df.groupby('tfms').instance_loss.nunique().min()>1                       # seeds differ
    monkeypatch.setattr(ablate, 'train', None)                                 # whatever is there is not run again
    ablate.main(**args)
    assert pd.read_csv(tmp_path/'a.csv', keep_default_na=False, dtype=dict(run=str)).equals(df)

def test_ablate_reads_more_tasks_and_trains_in_bf16(corpus, tmp_path, monkeypatch):
    (tmp_path/'more'/'tasks').mkdir(parents=True)
    df = pd.read_csv(corpus/'tasks'/'classes.csv')
    df.assign(label=[f[0] for f in df.label]).to_csv(tmp_path/'more'/'tasks'/'letters.csv', index=False)
    learners,train = [],ablate.train
    def spied(*args):
        learners.append((res := train(*args))[0])
        return res
    monkeypatch.setattr(ablate, 'train', spied)
    ablate.main(data=corpus, more=tmp_path/'more', passes=1, out=tmp_path/'a.csv', base=SMALL, switch=['bf16=True'])
    plain,half = (any(isinstance(cb, MixedPrecision) for cb in o.cbs) for o in learners)
    assert half and not plain
    df = pd.read_csv(tmp_path/'a.csv')
    assert len(df)==2 and df.instance_loss.nunique()==2 and np.allclose(df.average, (df.classes+df.letters)/2, atol=.02)

def test_ablate_done_compares_all_settings():
    cfg = dict(passes=1, lr=1e-3)
    rows = [{'run':ablate.run_name({**cfg, 'tfms':'crop'}, 0), 'split':'valid'}]
    assert ablate.done(rows, {**cfg, 'tfms':'crop'}, 0, 'valid')
    assert not ablate.done(rows, cfg, 0, 'valid')                               # a run with one setting more is another run
    assert not ablate.done(rows, {**cfg, 'tfms':'crop'}, 1, 'valid') and not ablate.done(rows, {**cfg, 'tfms':'crop'}, 0, 'test')

def test_ablate_splits(corpus):
    ts = ablate.tasks(corpus, ['g20','g21'])['classes']
    assert set(ts['valid'][2])=={'g22'} and {'g30','g31'}<=set(ts['test'][2])  # only validation clips are left out
    one_hot = lambda fs: np.array([[f.parent.name==c for c in sorted({o.parent.name for o in ts['train'][0]})] for f in fs], float)
    noise = lambda fs: np.random.default_rng(0).normal(size=(len(fs),8))
    for s in ('valid','test'):
        assert ablate.probe(one_hot, dict(t=ts), s)['t']>95
        assert ablate.probe(noise, dict(t=ts), s)['t']<30                      # 18 classes

def test_supervised_chooses_on_validation_clips(corpus, tmp_path, monkeypatch, capsys):
    rows = {}
    def row(task, s, encoder, epochs, lr, seed):
        rows[(lr,seed)] = 1
        return dict(task=task, encoder='', epochs=epochs, lr=lr, seed=seed, valid=60 if lr==1e-3 else 50, test=40 if lr==1e-3 else 90, seconds=0)
    with monkeypatch.context() as m:
        m.setattr(supervised, 'row', row)
        supervised.main(data=corpus, seeds=2, out=tmp_path/'s.csv')
    assert set(rows)=={(1e-3,0),(3e-3,0),(1e-3,1)} and '40.0' in capsys.readouterr().out
    r = supervised.row('classes', ablate.tasks(corpus)['classes'], None, 1, 1e-3, 0)
    assert 0<=r['test']<=100 and r['seconds']>=0

def test_recipe_trains_judges_and_goes_on(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(recipe.nets, 'small', ('audiontt',dict(d=32, width=8)))
    args = dict(data=corpus, clips=128, keep=tmp_path/'keep')
    for bf16 in (False,True): recipe.main(train_seed=3, bf16=bf16, **args)
    made = {o.name for o in (tmp_path/'keep').iterdir() if (o/'config.json').exists()}
    assert made=={'128_s3','128_s3_bf16'}
    monkeypatch.setattr(recipe, 'SlicerLearner', None)                         # what is there is not trained again
    recipe.main(train_seed=3, **args)
    args.update(ours='128_s3 128_s3_bf16', seeds=2, read='own', out=tmp_path/'r.csv')
    recipe.main(**args)
    rows,gain = pd.read_csv(tmp_path/'r.csv'),pd.read_csv(tmp_path/'r_intervals.csv').set_index('task')
    assert len(rows)==4 and rows.enc.str.startswith('untrained').sum()==2 and rows.test.between(0, 100).all()
    assert gain['diff'].average==pytest.approx(rows.test[:2].mean()-rows.test[2:].mean(), abs=.02) and (gain.lo<=gain['diff']).all() and (gain['diff']<=gain.hi).all()
    monkeypatch.setattr(recipe, 'judge', None)
    recipe.main(**args)

def test_benches_say_what_is_missing():
    for m in (ablate, supervised):
        with pytest.raises(CliError, match='--data'): m.main()
