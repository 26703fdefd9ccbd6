"""How long does the ridge classifier of `linear_probe` take beside scikit-learn's? `python -m benchmarks.ridge`
Ratios of times of one run, one thread; each row: clips, numbers an embedding, classes; six regularisations.
`same folds`: `RidgeClassifierCV` with the same five folds of whole groups, which must choose the same regularisation and give the same answers.
`leave one out`: `RidgeClassifierCV` as it comes, which cannot keep groups together; how many times as strong a regularisation it chose."""
import os; os.environ.setdefault('OMP_NUM_THREADS', '1')
from fastai.basics import *
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GroupKFold
from time import perf_counter
from slicer_fastai.use.evaluate import Ridge

alphas = np.array((1e-6,1e-5,3e-5,1e-4,3e-4,1e-3))

def timed(f, repeats):
    "The shortest of several times, and what `f` returned"
    times = []
    for _ in range(repeats):
        start = perf_counter()
        res = f()
        times.append(perf_counter()-start)
    return min(times),res

def row(n, d, c, repeats):
    rng,y,groups = np.random.default_rng(0),np.arange(n)%c,np.arange(n)//10
    x = rng.normal(size=(c,d))[y]+3*rng.normal(size=(n,d))
    ours,ridge = timed(lambda: Ridge(x, y, groups, alphas=alphas), repeats)
    z,scaled = ridge.z,alphas*(ridge.z**2).sum()
    same,theirs = timed(lambda: RidgeClassifierCV(scaled, cv=list(GroupKFold(5).split(z, y, groups)), scoring='accuracy').fit(z, y), repeats)
    alone,loo = timed(lambda: RidgeClassifierCV(scaled).fit(z, y), repeats)
    assert np.isclose(theirs.alpha_, ridge.used) and (theirs.predict(z)==ridge(x)).all()
    return dict(clips=n, numbers=d, classes=c, **{'ours, s':ours, 'same folds':same/ours, 'leave one out':alone/ours, 'stronger':loo.alpha_/ridge.used})

@call_parse
def main(
    repeats:int=2,  # the shortest of so many times counts
):
    sizes = (270,2688,18),(500,512,50),(2000,512,35),(2000,2688,35),(5000,512,50)
    print(pd.DataFrame([row(*size, repeats) for size in sizes]).round(2).to_string(index=False))
