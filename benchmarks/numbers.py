"""Do the numbers one steers by mean what they say? Validation loss against probe by epoch, and rates proposed by lr_find against a grid.

    python -m benchmarks.numbers --what epochs [--data PATH] [--seeds 5]
    python -m benchmarks.numbers --what rates  [--data PATH] [--seeds 3]
    python -m benchmarks.numbers --what table

Without `--data`: the synthesised sounds, the probe on others of their kinds. PATH as for benchmarks.ablate; probes are ridge classifiers on the middle window of
clips of each task, scored on its validation clips. 'epochs' adds a row an epoch to OUT/numbers_epochs.csv (epoch 0 is untrained), validated both by statistics of
the batch and by running averages; 'rates' adds a row a run to OUT/numbers_rates.csv and the curve of lr_find to OUT/numbers_curves.csv. A run that is there is not run again.
"""
import time, warnings
from fastcore.script import call_parse
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from slicer_fastai.train.probes import untouched
from slicer_fastai.audio.synth import synth_sounds
from slicer_fastai.train.learner import before_collapse
from .ablate import tasks

grid = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

def corpus(data, clips, few=300):
    "Files to train on, and for each task ((files, labels) to learn from, the same to report on)"
    pick = lambda xs,n: [xs[i] for i in np.random.default_rng(0).permutation(len(xs))[:n]]
    if data is None:
        more = get_audio_files(synth_sounds(n=12, seed=7))
        lab = lambda fs: (fs,[parent_label(f) for f in fs])
        files = [*more.sorted()]
        return [*get_audio_files(synth_sounds(n=-(-clips//18))).sorted()],dict(kinds=(lab(files[::2]),lab(files[1::2])))
    files = [data/f for f in pd.read_csv(data/'pretrain.csv').files]
    cut = lambda o,n: tuple(map(list, zip(*pick([*zip(*o[:2])], n))))
    return pick(files, clips),{t:(cut(s['train'], few),cut(s['valid'], 10**6)) for t,s in tasks(data).items()}

class Tasks:
    "Log-mels of labelled clips, read once; an encoder's accuracy on them in %, the average over tasks, and its standard error"
    def __init__(self, ts, front): self.ts = {t:[(front.specs(f).as_subclass(Tensor),np.asarray(y)) for f,y in s] for t,s in ts.items()}
    def __call__(self, enc):
        with untouched(enc), torch.no_grad():
            emb = lambda x: torch.cat([enc(b) for b in x.split(128)]).numpy()
            acc = {t:linear_probe(None, *[(emb(x),y) for x,y in s], alphas=(1e-4,)) for t,s in self.ts.items()}
        se = sum(p*(1-p)/len(self.ts[t][1][1]) for t,p in acc.items())**.5/len(acc)
        return {**{t:round(100*p,2) for t,p in acc.items()}, 'probe':round(100*np.mean([*acc.values()]),2), 'se':round(100*se,2)}

@torch.no_grad()
def valid(learn, bn, seed=42):
    "Validation loss and its parts over the validation clips, by batch statistics or running averages"
    m,res,n = learn.model,{},0
    with untouched(m, seed):
        if bn=='batch': m.batch_statistics()
        for xb,*_ in learn.dls.valid:
            v,ks = m.prepare(xb.as_subclass(Tensor))
            loss = m.loss(m(*v), *ks)
            for k,o in dict(valid_loss=loss.loss, **{k:loss.parts[k] for k in ('instance_loss','cluster_loss','accuracy','chance')}).items():
                res[k] = res.get(k, 0.)+float(o)*len(xb)
            n += len(xb)
        m.batch_statistics(False)
    return {f'{k}_{bn}':round(o/n, 5) for k,o in res.items()}

def clusters(learn, n=256):
    "exp of the entropy of the mean assignment: clusters in use"
    m = learn.model
    with untouched(m):
        x = next(iter(learn.dls.train))[0].as_subclass(Tensor)[:n]
        return round(math.exp(float(assignment_entropy(m(*m.views(x))[2]))), 2)

def learner(files, seed, lr=1e-3, bs=32):
    set_seed(seed, reproducible=True)
    dls = SlicerDataLoaders.from_lists('/tmp', files, valid_pct=1/6, seed=0, bs=bs, num_workers=0, device='cpu')
    return SlicerLearner(dls, arch_kwargs=dict(d=128, width=16), seed=seed, lr=lr)

def add(out, rows):
    "Rows to a CSV; new columns widen it"
    old = pd.read_csv(out) if out.exists() else pd.DataFrame()
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([old,pd.DataFrame(rows)] if len(old) else [pd.DataFrame(rows)], ignore_index=True).to_csv(out, index=False)

def has(out, **key):
    if not out.exists(): return False
    df = pd.read_csv(out)
    return bool(np.logical_and.reduce([np.isclose(df[k], v) if isinstance(v, float) else df[k]==v for k,v in key.items()]).any())

class EachEpoch(Callback):
    "Look after each epoch, in place of validation"
    order = 99
    def __init__(self, look=None): self.look,self.rows = look,[]
    def before_validate(self): raise CancelValidException
    def after_epoch(self):
        if self.look: self.rows.append(self.look(self.epoch+1))

def run_epochs(sounds, files, ts, seed, epochs, out):
    learn,t = learner(files, seed),time.time()
    score = Tasks(ts, learn.encoder.front)
    look = lambda e: dict(sounds=sounds, seed=seed, clips=len(files), epoch=e, **valid(learn, 'batch'), **valid(learn, 'running'), clusters=clusters(learn), **score(learn.encoder))
    rows,cb = [look(0)],EachEpoch(look)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, cbs=cb)
    add(out, [{**r, 'seconds':round(time.time()-t)} for r in rows+cb.rows])

class Parts(Callback):
    "The parts of the loss of each step"
    def before_fit(self): self.rows = []
    def after_loss(self): self.rows.append({k:round(float(v),5) for k,v in self.learn.loss_parts.items() if k!='accuracy'})

def curve(files, seed):
    "lr_find's curve: rate, smoothed loss, and the parts of each step"
    learn,p = learner(files, seed),Parts()
    learn.add_cb(p)
    with learn.no_bar(): learn.lr_find(show_plot=False)
    r = learn.recorder
    return [dict(lr=lr, loss=round(float(l),5), **o) for lr,l,o in zip(r.lrs, r.losses, p.rows)]

def run_rate(sounds, files, ts, seed, epochs, lr, out):
    learn,t = learner(files, seed),time.time()
    score = Tasks(ts, learn.encoder.front)
    res = dict(sounds=sounds, seed=seed, clips=len(files), epochs=epochs, lr=lr, untrained=score(learn.encoder)['probe'])
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr, cbs=EachEpoch())
    add(out, [dict(**res, **score(learn.encoder), clusters=clusters(learn), **valid(learn, 'batch'), seconds=round(time.time()-t))])

def epochs_table(df):
    "For each run: does a lower validation loss mean a better probe? Rank correlation over the epochs, and the epoch it would keep"
    rows = []
    for (sounds,seed),g in df.groupby(['sounds','seed']):
        g = g.sort_values('epoch'); t = g[g.epoch>0]; last = t.iloc[-1]
        row = dict(sounds=sounds, seed=seed, untrained=g.probe.iloc[0], last=last.probe, se=last.se)
        for bn in ('batch','running'):
            best = t.loc[t[f'valid_loss_{bn}'].idxmin()]
            row |= {f'rank {bn}':round(-t[f'valid_loss_{bn}'].corr(t.probe, method='spearman'), 2), f'best {bn}':int(best.epoch), f'probe {bn}':best.probe,
                    f'ok {bn}':bool(best.epoch>1 and best.probe>=last.probe-last.se)}
        rows.append(row)
    return pd.DataFrame(rows)

def proposals(g):
    "What suggestion functions say to a curve of lr_find"
    from fastai.callback.schedule import valley,slide,minimum,steep
    lrs,losses = tensor(g.lr.values[10:-5]),tensor(g.loss.values[10:-5])
    res = {f.__name__:f(lrs, losses, len(g))[0] for f in (valley,slide,minimum,steep)}
    return {'before_collapse':before_collapse(lrs, losses, len(g), [*g.entropy])[0], **res}

def rates_table(rates, curves):
    "For each seed: the probe of each rate, those within one standard error of the best, and what is proposed"
    rows = []
    for (sounds,seed),g in rates.groupby(['sounds','seed']):
        best = g.loc[g.probe.idxmax()]; ok = g[g.probe>=best.probe-best.se].lr
        c = curves[(curves.sounds==sounds)&(curves.seed==seed)]
        rows.append({'sounds':sounds, 'seed':seed, **{f'{lr:g}':p for lr,p in zip(g.lr, g.probe)}, 'se':best.se, 'good':f'{ok.min():g} … {ok.max():g}',
                     **({k:f'{v:.2g}' for k,v in proposals(c).items()} if len(c) else {})})
    return pd.DataFrame(rows)

@call_parse
def main(
    what:str='epochs',   # 'epochs', 'rates', or 'table'
    data:Path=None,      # folder with pretrain.csv and tasks/; default: synthesised sounds
    seeds:int=5,         # runs
    epochs:int=8,        # of each
    clips:int=960,       # to train and validate with
    rates:str=','.join(map(str, grid)), # learning rates of 'rates', with commas between
    out:Path=Path('benchmarks/results'), # folder of the CSVs
):
    "Validation loss, probe and proposed rates of small runs"
    warnings.filterwarnings('ignore'); torch.set_num_threads(1)
    if what=='table':
        read = lambda n: pd.read_csv(Path(out)/f'numbers_{n}.csv')
        return print(epochs_table(read('epochs')).to_string(index=False), rates_table(read('rates'), read('curves')).to_string(index=False), sep='\n\n')
    out,sounds = Path(out),'recordings' if data else 'synthesised'
    files,ts = corpus(data and Path(data), clips)
    for seed in range(seeds):
        if what=='epochs' and not has(f := out/'numbers_epochs.csv', sounds=sounds, seed=seed): run_epochs(sounds, files, ts, seed, epochs, f)
        if what=='rates':
            if not has(f := out/'numbers_curves.csv', sounds=sounds, seed=seed): add(f, [dict(sounds=sounds, seed=seed, **o) for o in curve(files, seed)])
            for lr in map(float, rates.split(',')):
                if not has(f := out/'numbers_rates.csv', sounds=sounds, seed=seed, lr=lr): run_rate(sounds, files, ts, seed, epochs, lr, f)
        print(what, sounds, seed, time.strftime('%X'), flush=True)
