"""Does pre-training help? The small network, or the published one, from seed to table: trained and untrained encoders, ridge classifiers on every task, gains with intervals by group.

    python -m benchmarks.recipe --data POOL --train-seed 1                               # kept in recipe/; the same command goes on where it stopped
    python -m benchmarks.recipe --data POOL --more OUT --ours '262144_s1 slicer-small'   # these and untrained twins: rows in recipe.csv, then the gains

POOL holds pretrain.csv (column `files`) and tasks/*.csv as for benchmarks.ablate; OUT is what `python -m benchmarks.more_tasks OUT` made. Columns `valid|…` score
validation clips with the regularisation chosen by cross-validation over groups of the training clips; columns `test|…` score test clips with the regularisation
chosen on validation clips. Rows that are there are not made again.
"""
import warnings
from fastcore.script import call_parse, store_true, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from slicer_fastai.use.evaluate import bootstrap_weights
from .ablate import tasks, read_rows, append_row

nets = dict(small=('audiontt',dict(d=512, width=32)), base=('audiontt',dict(d=512, width=64)), published=('audiontt',dict(d=2048, width=64)), byola2022=('audiontt2022',{}))
readings = {'mel':('logmel','mean+std'), 'today':('fc1','max+mean'), 'ms+mel':('fc1 logmel','mean+std'), 'c23f1+mel':('conv2 conv3 fc1 logmel','mean+std'), 'c23f12+mel':('conv2 conv3 fc1 fc2 logmel','mean+std')}

def train(data, keep, net, seed, clips, bf16):
    "One cycle of whole passes, about so many clips, as slicer-small's card says; its encoder's folder"
    name = f"{'' if net=='small' else net+'_'}{clips}_s{seed}{'_bf16' if bf16 else ''}"
    done = keep/name
    if (done/'config.json').exists(): return done
    pack = pack_audio(data, keep/'pack', files=[data/f for f in pd.read_csv(data/'pretrain.csv').files])
    set_seed(seed)
    dls = SlicerDataLoaders.from_pack(pack, bs=64, num_workers=0, labels=False)
    arch,kw = nets[net]
    learn = SlicerLearner(dls, arch, arch_kwargs=kw, seed=seed)
    if bf16: learn.to_bf16()
    with learn.no_bar(): learn.fit_one_cycle(round(clips/(len(dls.train)*dls.bs)), 1e-3, cbs=Resume(keep/f'state_{name}'))
    return learn.encoder.save_pretrained(done)

def read_at(enc, read):
    "The same network, read at other layers"
    if read=='own': return enc
    layers,pool = readings[read]
    res = AudioEncoder(enc.arch, front=enc.front, layers=layers, pool=pool, net_mels=enc.net_mels, **enc.kwargs)
    res.load_state_dict(enc.state_dict())
    return res

def judge(enc, ts, answers):
    "Accuracy in % on validation and test clips of each task, and averages; which test clips were right goes into the folder `answers`"
    res = {}
    answers.mkdir(parents=True, exist_ok=True)
    for t,s in ts.items():
        at = {k:(embed(enc, f, progress=False),np.array(y),np.array(g)) for k,(f,y,g) in s.items()}
        res[f'valid|{t}'] = 100*float(linear_probe(None, at['train'], at['valid']))
        r = linear_probe(None, at['train'], at['test'], valid=at['valid'])
        res[f'test|{t}'] = 100*float(r)
        pd.DataFrame(dict(group=r.groups, right=r.right.astype(int))).to_csv(answers/f'{t}.csv', index=False)
    mean = lambda split: np.mean([v for k,v in res.items() if k.startswith(split)])
    return dict(valid=mean('valid'), test=mean('test'), **res)

def gains(answers, ours, theirs, n=1000):
    "Trained − untrained on test clips, means over seeds, with 95 % intervals by whole groups; the average last"
    rows,draws = [],[]
    for i,f in enumerate(sorted((answers/ours[0]).glob('*.csv'))):
        a,b = (np.mean([pd.read_csv(answers/e/f.name).right for e in es], 0) for es in (ours, theirs))
        groups = pd.read_csv(f).group.astype(str)
        w = bootstrap_weights(groups, n, seed=i)
        draws.append(100*(w@(a-b))/w.sum(1))
        rows.append(dict(task=f.stem, clips=len(a), groups=groups.nunique(), trained=100*a.mean(), untrained=100*b.mean()))
    rows.append(dict(task='average', **{k:np.mean([r[k] for r in rows]) for k in ('trained','untrained')})); draws.append(np.mean(draws, 0))
    for r,d in zip(rows, draws): r.update(diff=r['trained']-r['untrained'], lo=np.quantile(d, .025), hi=np.quantile(d, .975))
    return pd.DataFrame(rows).set_index('task')

@call_parse
def main(
    data:Path=None,     # folder with pretrain.csv and tasks/
    more:Path=None,     # folder with more tasks/
    train_seed:int=None, # train a run of this seed instead
    clips:int=262144,   # that it sees, to the nearest whole pass over the training clips
    net:str='small',    # or 'published' (AudioNTT as published, 2048 numbers, 64 channels), 'byola2022' (the encoder of BYOL-A's second paper)
    bf16:store_true=False, # train in bfloat16, for processors that compute in it
    keep:Path=Path('recipe'),    # encoders, states, answers on test clips
    out:Path=Path('recipe.csv'), # one row an encoder and reading
    read:str='c23f1+mel',        # readings, with spaces between, of: mel (no network) today ms+mel c23f1+mel c23f12+mel own (the encoder's own layers); the first is the one compared
    seeds:int=3,                 # untrained twins
    ours:str='slicer-small',     # encoders whose mean is compared with the untrained: names of folders in `keep`, or shipped ones, with spaces between
):
    "Train, judge and compare"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    warnings.filterwarnings('ignore'); data,keep,out = Path(data),Path(keep),Path(out)
    if train_seed is not None: return print(train(data, keep, net, train_seed, clips, bf16))
    ts = {**tasks(data), **(tasks(Path(more)) if more else {})}
    trained = {n:AudioEncoder.from_pretrained(keep/n if (keep/n).exists() else n) for n in ours.split()}
    first = next(iter(trained.values()))                 # its mean and spread of log-mels are those of the pool
    blank = [f'untrained {first.num_features} s{i}' for i in range(seeds)]
    for name,enc in {**trained, **{u:first.untrained(i) for i,u in enumerate(blank)}}.items():
        for r in read.split():
            if any((o['enc'],o['read'])==(name,r) for o in read_rows(out)): continue
            res = judge(read_at(enc, r), ts, keep/'answers'/r/name)
            append_row(out, row := dict(enc=name, read=r, **{k:round(v, 2) for k,v in res.items()})); print(row, flush=True)
    print((res := gains(keep/'answers'/read.split()[0], list(trained), blank)).round(2).to_string())
    res.round(3).to_csv(out.with_name(out.stem+'_intervals.csv'))
