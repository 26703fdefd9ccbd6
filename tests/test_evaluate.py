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
