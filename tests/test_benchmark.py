"`benchmark` whole, on small trees of all data sets and on tables"
from conftest import *
from slicer_fastai.use.benchmark import *
from slicer_fastai.use.tasks import *
from trees import all_trees

@pytest.fixture(scope='module')
def trees(tmp_path_factory): return all_trees(tmp_path_factory.mktemp('data'))

@pytest.fixture(scope='module')
def enc():
    set_seed(0); return AudioEncoder('audiontt', d=8, width=1, front=FrontEnd(duration=.25)).eval()   # as long as most of the sounds

@pytest.fixture(scope='module')
def run(trees, enc):
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        return benchmark({'ours':enc,'untrained':enc.untrained(1)}, list(tasks), trees, out=trees/'r.json')

def test_whole_on_all_trees(run):
    "Fourteen tasks: four sounds that differ in colour stand for labels, and are told apart better than by chance on average"
    s = run.scores
    assert list(run.tasks)==list(tasks) and list(s)==[*tasks,'speech','music','sound','LAPE','average'] and s.notna().all(None)
    close(s.LAPE, s[[k for k,t in tasks.items() if t.lape]].mean(1)); close(s.speech, s[[k for k,t in tasks.items() if t.kind=='speech']].mean(1))
    assert s.loc['ours','average']>60 and s.loc['ours','esc50']==100, s.T
    assert len(run.results['ours']['esc50'].folds)==5 and len(run.results['ours']['urbansound8k'].folds)==10
    assert 0<run.results['ours']['fsd50k']<=1 and run.tasks['fsd50k']['metric']=='mAP'

def test_read_back_and_compared(run, trees, enc):
    back = Benchmark.load(trees/'r.json')
    assert back.cfg==json.loads(json.dumps(run.cfg)) and back.scores.equals(run.scores)
    c = run.compare(trees/'r.json')
    assert (c.points==0).all() and (c.clips=='the same').all() and c.drop('fsd50k').low.notna().all() and np.isnan(c.low['fsd50k'])
    assert run.encoders['ours']['weights']!=run.encoders['untrained']['weights'] and back.how['limit'] is None
    few = benchmark(enc, ['nsynth','commands2-35'], trees, limit=8)
    assert few.tasks['commands2-35']['clips']==dict(train=8, valid=8, test=8) and few.compare(run).clips.tolist()==['the same','others']
    own = benchmark(enc, {'own':_own(trees), 'folds':_own(trees).drop(columns='split').assign(fold=[1,2]*4)})
    assert own.tasks['folds']['folds']==len(own.results['encoder']['folds'].folds)==2
    with pytest.raises(ValueError, match='no task in common: nsynth, commands2-35 here'): few.compare(own)
    (trees/'x.json').write_text('{"format":2}')
    with pytest.raises(ValueError, match='x.json is no saved benchmark: its format is 2'): Benchmark.load(trees/'x.json')

def _own(trees):
    fs = sorted((trees/'nsynth/nsynth-test/audio').glob('*.wav'))
    return pd.DataFrame(dict(path=[str(f) for f in fs], label=[f.name[:2] for f in fs], split=['train','test']*4))

def test_all_is_looked_for_before_anything_is_heard(trees, enc, monkeypatch):
    monkeypatch.setattr('slicer_fastai.use.benchmark.embed', lambda *a, **k: pytest.fail('embedded'))
    with pytest.raises(MissingData, match='lacks the folder itself'): benchmark(enc, ['esc50','gtzan'], trees/'esc')
    with pytest.raises(MissingData, match='own: 8 files are not there'): benchmark(enc, {'own':_own(trees).assign(path='none.wav')})
    with pytest.raises(KeyError, match="no task 'esc'"): benchmark(enc, ['esc50','esc'], trees)

def test_a_fold_is_one_figure_and_the_mean_is_theirs():
    r = lambda k: ProbeResult(np.array(list('aabb')), np.array(list('aabb' if k else 'abab')), groups=np.array([0,0,1,1]))
    f = TaskResult([r(0), r(1), r(1)])
    assert abs(f-(.5+1+1)/3)<1e-12 and len(f.y)==12 and len(set(f.groups))==6
    close(f.minus(TaskResult([r(0), r(0), r(0)]))[0], 1/3)

def test_differences_are_those_of_the_figures():
    "Folds of 100 and 10 clips: their mean counts each fold once, and so does the difference"
    y = np.array(['a']*100); r = lambda n,hits: ProbeResult(y[:n], np.where(np.arange(n)<hits, 'a', 'b'))
    a,b = TaskResult([r(100, 90), r(10, 2)]),TaskResult([r(100, 80), r(10, 8)])
    d,lo,hi = a.minus(b)
    assert d==pytest.approx(float(a)-float(b)) and d==pytest.approx(.55-.8) and lo<=d<=hi

@pytest.mark.parametrize('splits,has', [(['train','valid'],'has train, valid'), (['test','valid'],'has test, valid'), (['train','train'],'has train')])
def test_a_split_without_test_is_said_before_anything_is_heard(trees, enc, monkeypatch, splits, has):
    for m in ('benchmark','evaluate'): monkeypatch.setattr(f'slicer_fastai.use.{m}.embed', lambda *a, **k: pytest.fail('embedded'))
    own = {'own':_own(trees).assign(split=splits*4)}
    for f in (benchmark, compare_encoders):
        with pytest.raises(ValueError, match=f"task 'own' {has}: a split needs train and test"): f(enc, own)

def test_files_of_0_0_2_stay_comparable():
    "Checksums of clips, of weights and the choice of a trial's clips are those that version 0.0.2 saved"
    from slicer_fastai.use.benchmark import clips_fingerprint, describe_encoder, limit_part
    splits = [dict(train=([Path('a/b/1.wav'),Path('a/b/2.wav')],['x','y'],None), test=(['c/d.wav'],[['p','q']],['g']))]
    assert clips_fingerprint(splits)=='7037fa48'
    assert describe_encoder(AudioEncoder.from_pretrained('slicer-small'))['weights']=='daaa6bc8'
    kept,*_ = limit_part(([f'{i}.wav' for i in range(30)],[str(i%3) for i in range(30)],None), 7)
    assert kept==[f'{i}.wav' for i in (6,7,10,11,18,19,26)]
