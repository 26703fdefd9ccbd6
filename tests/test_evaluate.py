"Probes, few-shot curves and comparisons"
import pickle, time
import pytest
from conftest import *
from scipy.stats import binomtest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, confusion_matrix, precision_recall_fscore_support

def blobs(n=90, d=20, c=3, noise=2., seed=0):
    rng = np.random.default_rng(seed); y = np.arange(n)%c
    return rng.normal(size=(c,d))[y]*1.+rng.normal(size=(n,d))*noise, np.array(list('abcdefgh'))[y], np.arange(n)//6

@pytest.fixture
def sets():
    x,y,g = blobs(); i = np.random.default_rng(1).permutation(15)<10
    tr = i[g]
    return (x[tr],y[tr],g[tr]),(x[~tr],y[~tr],g[~tr])

@pytest.mark.parametrize('a', [1e-6,1e-4,1e-2])
def test_ridge_is_scikit_learns(sets, a):
    (x,y,_),(xt,_,_) = sets
    for x_,xt_ in ((x,xt),(np.tile(x,(1,9))[:,:150]+np.random.default_rng(0).normal(size=(len(x),150)),np.random.default_rng(1).normal(size=(7,150)))):
        r = Ridge(x_, y, alphas=[a]); z = r.turn(x_)
        np.testing.assert_array_equal(r(xt_), RidgeClassifier(alpha=a*(z*z).sum()).fit(z, y).predict(r.turn(xt_)))

def test_one_standard_error():
    "As said by hand, fold by fold: never weaker than the best, within a standard error of it, and the strongest such"
    (x,y,g),alphas = blobs(d=60),[10.**o for o in range(-6, 1)]
    best,safe = [Ridge(x, y, g, alphas=alphas, one_se=o) for o in (False,True)]
    scale = (best.z**2).sum()
    by_fold = np.array([[np.mean(best.vocab[o.argmax(1)]==y[v]) for o in best.left_out(v, [a*scale for a in alphas])] for v in best.folds])
    np.testing.assert_allclose(by_fold.mean(0), safe.cv)
    b = by_fold.mean(0).argmax(); enough = by_fold.mean(0)>=by_fold.mean(0)[b]-by_fold[:,b].std(ddof=1)/len(by_fold)**.5
    assert best.alpha==pytest.approx(alphas[b]) and safe.alpha==pytest.approx(alphas[np.flatnonzero(enough)[-1]]) and safe.alpha>best.alpha
    assert Ridge(x, y, valid=(x,y), one_se=True).alpha==Ridge(x, y, valid=(x,y)).alpha     # one fold has no standard error

def test_result_is_a_float_and_more(sets):
    r = linear_probe(None, *sets)
    assert isinstance(r, float) and r==float(r) and round(r, 2)==round(float(r), 2) and pd.DataFrame([dict(a=r)]).a.dtype==float
    assert r.accuracy==np.mean(r.y==r.pred) and r.alpha in (1e-6,1e-5,3e-5,1e-4,3e-4,1e-3)
    assert r.balanced==pytest.approx(balanced_accuracy_score(r.y, r.pred)) and r.macro_f1==pytest.approx(f1_score(r.y, r.pred, average='macro'))
    np.testing.assert_array_equal(r.confusion, confusion_matrix(r.y, r.pred))
    lo,hi = r.interval(); assert lo<r<hi
    assert r.plot() is not None and set(r.per_class.index)==set('abc')
    for o in (pickle.loads(pickle.dumps(r)), deepcopy(r)): assert o==r and o.alpha==r.alpha and o.interval()==r.interval()
    with pytest.raises(AttributeError): r.nonsense

def test_intervals_respect_groups():
    "Ten clips a speaker, all right or all wrong: ten speakers, not a hundred clips"
    y = np.zeros(100, int); p = np.repeat([0,1]*5, 10)
    w = lambda r: r.interval()[1]-r.interval()[0]
    assert w(ProbeResult(y, p, groups=np.arange(100)//10))>2*w(ProbeResult(y, p))

def test_paired_difference_is_narrower(sets):
    rng = np.random.default_rng(0); y = rng.integers(0, 3, 300); p = np.where(rng.random(300)<.6, y, (y+1)%3); q = p.copy(); fix = np.flatnonzero(p!=y)[:10]; q[fix] = y[fix]
    a,b = ProbeResult(y, p),ProbeResult(y, q)
    d,lo,hi = b.minus(a)
    assert d==pytest.approx(10/300) and 0<lo<d<hi and a.interval()[1]>b.interval()[0]
    with pytest.raises(ValueError, match='same clips'): a.minus(ProbeResult(y[::-1], p))

def test_test_clips_choose_nothing(sets):
    tr,te = sets
    assert linear_probe(None, tr, te).alpha==linear_probe(None, tr, (te[0][::-1],te[1])).alpha
    assert linear_probe(None, tr, te, valid=te[:2]).alpha==linear_probe(None, tr, (te[0][::-1],te[1]), valid=te[:2]).alpha

def test_knn_and_embeddings_or_files(files):
    enc = AudioEncoder('audiontt', **encoder_kw).eval(); y = np.array(files.map(parent_label)); e = enc.embed(files)
    tr,te = np.arange(0, 108, 2),np.arange(1, 108, 2)
    for f in (linear_probe, knn_probe):
        a = f(enc, ([files[i] for i in tr],y[tr]), ([files[i] for i in te],y[te])); b = f(None, (e[tr],y[tr]), (e[te],y[te]))
        assert abs(a-b)<.04 and binomtest(round(a*54), 54, 1/18, 'greater').pvalue<.01

def test_several_labels(sets):
    (x,y,g),(xt,yt,gt) = sets
    hot = lambda y: np.stack([y=='a', y=='b', (y=='a')|(y=='c'), np.zeros(len(y), bool)], 1).astype(int)
    r = linear_probe(None, (x,hot(y),g), (xt,hot(yt),gt))
    assert isinstance(r, float) and .4<r<=1 and np.isnan(r.per_class.ap[3]) and r.interval()[0]<=r<=r.interval()[1]

@pytest.mark.parametrize('n,want', [(1,3),(4,12),('all',60),(1000,60)])
def test_draw_shots(sets, n, want):
    y = sets[0][1]; i = draw_shots(y, n, 3)
    assert len(i)==len(set(i))==want and set(y[i])=={'a','b','c'}
    np.testing.assert_array_equal(i, draw_shots(y, n, 3))

def test_few_shot(sets):
    r = few_shot(None, *sets, shots=(1,5,'all'), seeds=2)
    assert len(r.table)==5 and r.mean()['mean'].shape==(1,3) and r.mean()['mean'].iloc[0]['all']>1/3 and r.plot() is not None
    assert 'encoder' in repr(r) and '<table' in r._repr_html_()

def test_compare_encoders(files, tmp_path):
    enc = AudioEncoder('audiontt', **encoder_kw).eval()
    df = pd.DataFrame(dict(path=files.map(str), label=files.map(parent_label), group=[i//3 for i in range(108)], split=['train','test','train']*36))
    df.to_csv(tmp_path/'t.csv', index=False)
    c = compare_encoders({'mine':enc, 'own':lambda fs: np.random.default_rng(0).normal(size=(len(fs),4))}, {'kinds':tmp_path/'t.csv'})
    assert list(c.results)==['mine','own','untrained','mean + std of log-mels'] and c.scores.loc['mine','kinds']>c.scores.loc['own','kinds']
    d = c.differences(); assert len(d)==3 and (d.low<=d.points).all() and (d.points<=d.high).all() and c.plot() is not None

def test_untrained_twin_draws_no_numbers():
    e = AudioEncoder('audiontt', **encoder_kw); set_seed(1); a = torch.rand(1); set_seed(1); e.untrained(); assert torch.rand(1)==a

def test_folds_are_each_the_test_once(files):
    enc = AudioEncoder('audiontt', **encoder_kw).eval(); y = np.array(files.map(parent_label)); e = enc.embed(files)
    df = pd.DataFrame(dict(path=files, label=y, fold=np.arange(108)%3, group=np.arange(108)//6))
    r = compare_encoders(enc, dict(t=df), baseline=False, untrained=False).results['encoder']['t']
    want = [linear_probe(None, (e[i],y[i],df.group[i].to_numpy()), (e[~i],y[~i])) for i in (df.fold!=k for k in range(3))]
    assert list(r.folds)==[0,1,2] and list(r.folds.values())==pytest.approx([float(o) for o in want], abs=.03) and len(r.y)==108
    assert sorted(r.groups)==sorted(df.group.astype(str)) and r.interval()[0]<r<r.interval()[1]

def test_tags_have_paired_differences():
    rng = np.random.default_rng(0); y = rng.random((120,4))<.3; good,bad = y+rng.normal(size=y.shape)*.5,y+rng.normal(size=y.shape)*2
    a,b = TagResult(y, good),TagResult(y, bad); d,lo,hi = a.minus(b)
    assert d==pytest.approx(a-b) and 0<lo<d<hi
    with pytest.raises(ValueError, match='same clips'): a.minus(TagResult(~y, bad))

@pytest.fixture
def one_broken(files, tmp_path):
    "24 files of three kinds, two of which are no sound: labels, groups, and who can be read"
    by = [sorted(o for o in files if parent_label(o)==k)[:4] for k in sorted(set(files.map(parent_label)))[:6]]
    fs = [f for o in zip(*by) for f in o]; bad = np.isin(np.arange(24), (3,15))
    for i in np.flatnonzero(bad): fs[i] = tmp_path/f'bad{i}.wav'; fs[i].write_text('x')
    return fs,np.array([f'k{i%3}' for i in range(24)]),np.arange(24)//2,~bad

def test_what_cannot_be_read_is_left_out(one_broken):
    "Of train, valid and test, labels and groups with it; one warning counts"
    enc = AudioEncoder('audiontt', **encoder_kw).eval(); fs,y,g,ok = one_broken
    part = lambda s: (fs[s],y[s],g[s]); a,b,both = slice(0,12),slice(12,24),{}
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        r = linear_probe(enc, part(a), part(b), valid=part(b), errors='skip')
    assert [str(w.message) for w in ws if 'left out' in str(w.message)]==['clips without a finite embedding are left out: 1 of 12 in train, 1 of 12 in test, 1 of 12 in valid']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        own = linear_probe(enc, part(a), part(b)[:2], groups=g[b], errors='skip'); kn = knn_probe(enc, part(a), part(b), errors='skip')
        few = few_shot(enc, part(a), part(b), shots=(1,), seeds=1, errors='skip')
    for o in (r, own, kn): assert (o.y==y[b][ok[b]]).all() and (o.groups==g[b][ok[b]]).all()
    keep = lambda s: tuple([o for o,k in zip(v, ok[s]) if k] for v in part(s))
    assert r.pred.tolist()==linear_probe(enc, keep(a), keep(b), valid=keep(b)).pred.tolist() and len(few.table)==1
    with pytest.raises(ValueError, match='train: none of 12 clips'): linear_probe(None, (np.full((12,3), np.nan),y[a]), (np.ones((12,3)),y[b]))

def test_comparisons_stay_paired(one_broken):
    "What one cannot hear nobody is asked, he who learns from files neither; in folds as well"
    enc = AudioEncoder('audiontt', **encoder_kw).eval(); fs,y,g,ok = one_broken
    class Own:
        def fit_test(self, train, test): assert not any('bad' in str(f) for f in (*train[0],*test[0])); return ProbeResult(test[1], test[1], test[2])
    z = np.random.default_rng(0).normal(size=(24,4)); z[20] = np.inf
    who = {'function':lambda items: z[[fs.index(f) for f in items]], 'mine':enc, 'own':Own()}
    t = dict(a=(fs[:12],y[:12],g[:12]), b=(fs[12:],y[12:],g[12:]))
    ok = ok&(np.arange(24)!=20)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        c = compare_encoders(who, {'split':tuple(t.values()), 'folds':t}, errors='skip')
    for r in c.results.values(): assert (r['split'].y==y[12:][ok[12:]]).all() and (r['folds'].y==y[ok]).all() and (r['folds'].groups==g[ok]).all()
    assert len(c.differences())==8

def test_tables_of_a_thousand_classes_are_scikit_learns():
    "The same numbers, in the same time: a comparison for each class would take a thousand times as long, not ten"
    rng = np.random.default_rng(0)
    y,p = [rng.integers(0, 1000, 5000).astype(str) for _ in range(2)]
    p = np.where(rng.random(5000)<.5, y, p)
    r = ProbeResult(y, p)
    c,df = r.confusion,r.per_class
    assert (c.to_numpy()==confusion_matrix(y, p, labels=list(c.index))).all()
    precision,recall,f1,n = precision_recall_fscore_support(y, p, labels=list(df.index), zero_division=0)
    for mine,theirs in ((df.precision,precision), (df.recall,recall), (df.f1,f1), (df.clips,n)): np.testing.assert_allclose(mine, theirs)
    assert c.loc['7', df.taken_for['7']]==c.loc['7'].drop('7').max()
    ours = fastest(lambda: (r.confusion, r.per_class))
    theirs = fastest(lambda: (confusion_matrix(y, p), precision_recall_fscore_support(y, p, zero_division=0)))
    assert ours<10*theirs, (ours, theirs)

def fastest(f, n=3):
    "Least processor time of `n` calls"
    def seconds(): start = time.process_time(); f(); return time.process_time()-start
    return min(seconds() for _ in range(n))

# --- what is said, and what is kept apart ---

@pytest.mark.parametrize('right,n,low,high', [(6,6,.6097,1.), (0,6,0.,.3903), (100,100,.963,1.)])
def test_a_perfect_score_has_an_interval(right, n, low, high):
    "Wilson's: six of six is .61 to 1"
    y = np.array(['a','b']*(n//2)); pred = y.copy(); pred[right:] = 'z'
    r = ProbeResult(y, pred); assert r.interval()==pytest.approx((low,high), abs=2e-4) and f'{low:.3f}' in repr(r)
    t = TagResult(np.eye(6, dtype=int), np.eye(6)); assert t==1 and t.interval()[0]==pytest.approx(.6097, abs=1e-3)

def test_a_perfect_score_of_few_groups():
    "Sixty clips of three speakers are three"
    y = np.array(['a','b','c']*20); assert ProbeResult(y, y, groups=np.arange(60)//20).interval()[0]==pytest.approx(wilson_lower(3), abs=1e-3)

def wilson_lower(n): return n/(n+1.959964**2)

@pytest.mark.parametrize('probe', [linear_probe, knn_probe])
def test_labels_that_nobody_was_trained_on(sets, probe):
    train,(xt,yt,gt) = sets; odd = yt.astype('<U3'); odd[:4] = 'owl'
    with pytest.warns(UserWarning, match=f'4 of {len(yt)} test clips.*owl'): r = probe(None, train, (xt,odd,gt))
    assert not r.right[:4].any()
    with pytest.raises(ValueError, match='owl'): probe(None, train, (xt[:4],odd[:4],gt[:4]))

def test_tags_that_nobody_was_trained_on(sets):
    (x,y,g),(xt,yt,gt) = sets; hot = lambda y: (y[:,None]==np.array(list('abcd'))).astype(int)
    odd = hot(yt); odd[0,3] = 1
    with pytest.warns(UserWarning, match='1 of .*3'): linear_probe(None, (x,hot(y),g), (xt,odd,gt))

@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    "Eight recordings, in each three calls of one kind or the other, and a hum of its own louder than they are"
    import soundfile as sf
    d = tmp_path_factory.mktemp('recordings'); rows = []; t = np.arange(16000)/16000
    for i in range(8):
        rng = np.random.default_rng(i); x = rng.normal(size=20*16000)*.02; x += .3*np.sin(2*np.pi*(300+150*i)*np.arange(len(x))/16000)
        for j,at in enumerate((2,8,14)):
            label = 'ab'[(i+j)%2]; x[at*16000:(at+1)*16000] += .2*np.sin(2*np.pi*(3000 if label=='a' else 5000)*t)
            rows.append(dict(file=f'r{i}.wav', start=at+.2, end=at+.9, label=label))
        sf.write(d/f'r{i}.wav', x, 16000)
    return d,pd.DataFrame(rows)

def test_places_are_split_by_recording(recordings):
    "Rows of one file on one side; at random only if asked for; one recording cannot be split"
    d,t = recordings; parts = read_task(t, d)
    assert set(parts)=={'train','test'} and len(parts['test'][0])==6
    a,b = [{c.name for c in parts[k][0]} for k in ('train','test')]; assert not a&b and len(a|b)==8
    items,labels,_ = parts['test']; assert (items[0].start,items[0].limit)==(t.start[9],pytest.approx(.7)) and labels[0]==t.label[9]
    at_random = read_task(t, d, split='random'); assert {c.name for c in at_random['train'][0]} & {c.name for c in at_random['test'][0]}
    with pytest.raises(ValueError, match="r0.wav.*random"): read_task(t[:3], d)
    assert {len(set(o[2])) for o in read_task(t.assign(group=t.file.str[:2]), d).values()}=={6,2}
    odd = read_task(t.groupby('file').head(1).reset_index(drop=True), d); assert len(odd['test'][0])==2    # one row a file: by label, as before

def test_probes_hear_places(recordings):
    "The embedding of each place, recordings as groups of cross-validation and of intervals"
    d,t = recordings; set_seed(0); enc = AudioEncoder('audiontt', d=32, width=8).eval(); task = read_task(t, d)
    r = linear_probe(enc, task['train'], task['test']); assert len(r.y)==6 and len(set(r.groups))==2
    x = {k:enc.embed(v[0]) for k,v in task.items()}
    g = np.array([o.name for o in task['train'][0]]); want = Ridge(x['train'], task['train'][1], g)
    assert r.alpha==want.alpha and r.pred.tolist()==want(x['test']).tolist()
    assert knn_probe(enc, task['train'], task['test'], k=3).k==3 and len(few_shot(enc, task['train'], task['test'], (1,'all'), 2).table)==3
    c = compare_encoders({'e':enc}, {'calls':t.assign(path=[str(d/f) for f in t.file])}); assert len(c.results['e']['calls'].y)==6 and set(c.results)=={'e','untrained','mean + std of log-mels'}
    b = benchmark({'e':enc}, {'calls':task}); assert b.results['e']['calls']==r and b.tasks['calls']['clips']=={'train':18,'test':6} or b.tasks['calls']['clips']=={'test':6,'train':18}
    other = {k:([Clip(o.item, start=o.start+.1, seconds=o.limit) for o in v[0]],*v[1:]) for k,v in task.items()}
    assert benchmark({'e':enc}, {'calls':other}).tasks['calls']['checksum']!=b.tasks['calls']['checksum']

def test_recordings_on_both_sides_are_told(recordings):
    "Four random rows a file score well for the wrong reason"
    d,t = recordings; enc = AudioEncoder('audiontt', d=32, width=8).eval(); task = read_task(t, d, split='random')
    for f in (linear_probe, knn_probe, partial(few_shot, shots=(1,), seeds=1)):
        with pytest.warns(UserWarning, match='of 6 items to test on are of recordings that are also trained on'): f(enc, task['train'], task['test'])
    with warnings.catch_warnings():
        warnings.simplefilter('error'); task = read_task(t, d); linear_probe(enc, task['train'], task['test'])
