"""What an embedding is read from: statistics of layers over time, alone and side by side, and projections to fewer numbers. No training.

    python -m benchmarks.reading_levers --data POOL --more MORE --keep LEVERS --out benchmarks/results/reading_levers.csv
    python -m benchmarks.reading_levers --data POOL --more MORE --encoders 'slicer-small untrained:slicer-small' --readings 'today | today + logmel:lag1'

POOL, MORE and LEVERS as for benchmarks.levers, whose log-mels of the tasks are read. A reading is `layer:statistic` with ` + ` between; `today` stands for mean and standard
deviation of the layers that the encoder is read at, `… @ pca512` and `… @ random512` for a projection, fitted on clips of the pool without labels. One row an encoder and
reading; choose by `valid`.
"""
import time, warnings, re
from fastcore.script import call_parse, CliError
from fastai.basics import *
from slicer_fastai.all import *
from .ablate import tasks, read_rows, append_row
from .levers import task_specs

layers = 'conv2','conv3','fc1','fc2','top','logmel'
lags = dict(logmel=(1,2,4,8,16,32), conv2=(1,4,8,16), conv3=(1,2,4,8), fc1=(1,2,3,4,6,8), fc2=(1,2,4,8), top=(1,))

def frames(enc, x):
    "Frames (B, T, d) of every layer"
    x = enc.norm(x)
    with torch.autocast('cpu', torch.bfloat16): named = enc.body.forward_layers(x)
    return {**{k:o.float() for k,o in named.items()}, 'logmel':x.flatten(1,2).mT}

def modulation(x, n=8):
    "Power of the modulation frequencies of each log-mel band, in `n` bands of them (B, d·n)"
    power = torch.fft.rfft((x-x.mean(1, keepdim=True))*torch.hann_window(x.shape[1])[:,None], dim=1).abs().square()
    edges = np.unique(np.geomspace(1, power.shape[1], n+1).round().astype(int))
    return torch.cat([power[:,a:b].mean(1) for a,b in zip(edges, edges[1:])], -1)

def correlations(x, bands=16):
    "Mean products of pooled log-mel bands, and the same one and four frames later (B, 3·bands²)"
    x = x.unflatten(-1, (bands,-1)).mean(-1)
    return torch.cat([(x[:,:x.shape[1]-k].mT@x[:,k:]/(x.shape[1]-k)).flatten(1) for k in (0,1,4)], -1)

def window_sums(enc, x):
    "Of each window: what is averaged over a clip, and what the maximum is taken of: two dictionaries of (B, ·)"
    averaged,largest = {},{}
    for name,y in frames(enc, x).items():
        if name not in layers: continue
        averaged[f'{name}:mean'] = y.mean(1)
        averaged[f'{name}:square'] = y.square().mean(1)
        largest[f'{name}:max'] = y.amax(1)
        for k in lags[name]: averaged[f'{name}:lag{k}'] = (y[:,k:]-y[:,:-k]).square().mean(1)
        if name=='logmel':
            averaged['logmel:modulation'] = modulation(y)
            averaged['logmel:products'] = correlations(y)
            largest['logmel:min'] = -y.amin(1)
    return averaged,largest

@torch.no_grad()
def statistics(enc, x, owner, bs=64):
    "Statistics of whole clips: {'layer:statistic': (clips, ·)}"
    n = int(owner.max())+1
    per_clip = owner.bincount()[:,None]
    sums,tops = [],[]
    for b in x.split(bs):
        averaged,largest = window_sums(enc, b.float())
        sums.append(averaged)
        tops.append(largest)
    res = {}
    for k in sums[0]:
        y = torch.cat([o[k] for o in sums])
        res[k] = torch.zeros(n, y.shape[1]).index_add_(0, owner, y)/per_clip
    for k in tops[0]:
        y = torch.cat([o[k] for o in tops])
        res[k] = torch.full((n, y.shape[1]), -torch.inf).index_reduce_(0, owner, y, 'amax')
    return finish(res)

def finish(res):
    "Standard deviations, and logarithms of what is a power"
    for name in layers:
        res[f'{name}:std'] = (res.pop(f'{name}:square')-res[f'{name}:mean'].square()).clamp_min(0).add(1e-8).sqrt()
    products = res['logmel:products'].unflatten(1, (3,16,16))
    mean = res['logmel:mean'].unflatten(1, (16,-1)).mean(-1)
    cov = products-(mean[:,:,None]*mean[:,None,:])[:,None]
    std = cov[:,0].diagonal(dim1=1, dim2=2).clamp_min(1e-4).sqrt()
    cor = cov/(std[:,:,None]*std[:,None,:])[:,None]
    rows,cols = torch.triu_indices(16, 16, 1)
    res['logmel:correlations'] = cor[:,0,rows,cols]
    res['logmel:later'] = cor[:,1:].flatten(1)
    del res['logmel:products']
    for k in [k for k in res if ':lag' in k]: res[k] = res[k].add(1e-8).sqrt()
    res['logmel:modulation'] = res['logmel:modulation'].add(1e-3).log()
    return res

def whole(reading, enc):
    "The statistics that a reading names"
    today = [f'{l}:{s}' for s in ('mean','std') for l in enc.layers]
    return [k for part in reading.split('+') for k in (today if part.strip()=='today' else [part.strip()])]

def projection(kind, x):
    "A function of embeddings, fitted on those of unlabelled clips: 'pca512', 'random512'"
    if not kind: return noop
    mean,std = x.mean(0),x.std(0)+1e-6
    n = int(re.search(r'\d+', kind)[0])
    if kind.startswith('random'): w = np.random.default_rng(0).normal(size=(x.shape[1], n))/x.shape[1]**.5
    else: w = np.linalg.svd((x-mean)/std, full_matrices=False)[2][:n].T
    return lambda z: (((z-mean)/std)@w).astype(np.float32)

def judge(stats, pool, reading, enc):
    "Accuracy in % of one reading on all tasks"
    names,_,kind = reading.partition('@')
    names = whole(names, enc)
    join = lambda d: torch.cat([d[k] for k in names], 1).numpy()
    project = projection(kind.strip(), join(pool))
    res = {}
    for task,splits in stats.items():
        at = {s:(project(join(d)), np.array(y), np.array(g)) for s,(d,y,g) in splits.items()}
        res[f'valid|{task}'] = 100*float(linear_probe(None, at['train'], at['valid']))
        res[f'test|{task}'] = 100*float(linear_probe(None, at['train'], at['test'], valid=at['valid']))
    mean = lambda split: np.mean([v for k,v in res.items() if k.startswith(split)])
    return dict(numbers=project(join(pool)[:1]).shape[1], valid=mean('valid'), test=mean('test'), **res)

def encoder(name, keep):
    "A shipped one, one of benchmarks.levers, or 'untrained:' before either's name"
    kind,_,own = name.rpartition(':')
    enc = AudioEncoder.from_pretrained(keep/own if (keep/own).exists() else own)
    return enc.untrained(0) if kind else enc

def all_statistics(enc, name, specs, pool_specs, keep):
    "Statistics of all tasks and of clips of the pool, computed once"
    fn = keep/'statistics'/f"{name.replace(':','_')}.pt"
    if not fn.exists():
        fn.parent.mkdir(parents=True, exist_ok=True)
        pool = statistics(enc, pool_specs, torch.arange(len(pool_specs)))
        stats = {t:{s:(statistics(enc, x, owner), y, g) for s,(x,owner,y,g) in splits.items()} for t,splits in specs.items()}
        torch.save((stats, pool), fn)
    return torch.load(fn, mmap=True, weights_only=False)

#: What is tried unless other readings are named
tried = ' | '.join(['today', 'conv3:mean + conv3:std + fc1:mean + fc1:std + logmel:mean + logmel:std', 'conv3:mean + conv3:std + logmel:mean + logmel:std',
    *(f'today + {o}' for o in ('logmel:lag1', 'logmel:lag1 + logmel:lag4 + logmel:lag16', 'conv3:lag1', 'fc1:lag1', 'conv2:lag1', 'logmel:modulation', 'logmel:correlations',
      'logmel:later', 'logmel:max + logmel:min', 'conv3:max', 'fc1:max', 'fc2:mean + fc2:std', 'top:mean + top:std')),
    'today @ pca512', 'today @ pca1024', 'today @ random512'])

@call_parse
def main(
    data:Path=None,     # folder with pretrain.csv and tasks/
    more:Path=None,     # folder with more tasks/
    encoders:str='slicer-small untrained:slicer-small', # shipped, or folders in `keep`, with spaces between
    readings:str=tried, # with ` | ` between
    n_pool:int=2048,    # clips of the pool to fit projections on
    keep:Path=Path('levers'),               # that of benchmarks.levers
    out:Path=Path('reading_levers.csv'),    # one row an encoder and reading; rows that are there are not made again
):
    "Probe each reading of each encoder"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    warnings.filterwarnings('ignore')
    data,keep,out = Path(data),Path(keep),Path(out)
    ts = {**tasks(data), **(tasks(Path(more)) if more else {})}
    files = pd.read_csv(data/'pretrain.csv').files.sample(n_pool, random_state=0)
    for name in encoders.split():
        enc = encoder(name, keep)
        specs = task_specs(ts, enc.front, keep)
        stats,pool = all_statistics(enc, name, specs, enc.front.specs([data/f for f in files]).as_subclass(Tensor), keep)
        for reading in [o.strip() for o in readings.split('|')]:
            if any((o['enc'],o['reading'])==(name,reading) for o in read_rows(out)): continue
            t = time.time()
            row = dict(enc=name, reading=reading, **{k:round(float(v), 2) for k,v in judge(stats, pool, reading, enc).items()}, seconds=round(time.time()-t))
            append_row(out, row)
            print({k:row[k] for k in ('enc','reading','numbers','valid','test','seconds')}, flush=True)
