"""What moves the encoder: one row a training run, resumable, judged on all tasks by one ridge probe.

    python -m benchmarks.levers --data POOL --more MORE --out benchmarks/results/levers.csv
    python -m benchmarks.levers --data POOL --more MORE --runs 'synth=1 | synth=.5 near=1' --clips 60000 --seeds 3

POOL and MORE as for benchmarks.recipe. A run is written as settings with spaces between, runs with ` | ` between; `none` is today's recipe, `untrained` no training at all; the name of a shipped encoder
or a folder judges that. With ` finer` behind it the same encoder is read by `finer`.
benchmarks/results/levers.csv was judged by mean and deviation of four layers, levers_changes.csv by the reading that is the default now, which has their changes as well.
levers_pool.csv is of a pool of 27 hours and parts of it.
Settings are those of `extra` below and arguments of `SlicerLearner`; a run that fails keeps its row, with the error. Choose by `valid`; `test` is for the last look.
"""
import time, traceback, warnings, itertools
import torch.nn.functional as F
from fastcore.script import call_parse, store_true, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from slicer_fastai.models.encoder import shipped
from slicer_fastai.models.losses import local_loss
from slicer_fastai.audio.random_synth import *
from slicer_fastai.data.random import *
from slicer_fastai.use.embed import frame_stats, RunningPool
from .ablate import tasks, read_rows, append_row, value
from .recipe import nets

#: Settings that are no arguments of `SlicerLearner`, and what they are today
extra = dict(
    share=1.,      # of the recordings of the pool that are used
    synth=0.,      # share of random sounds
    spread=.2,     # how unlike the two versions of a random sound are
    near=None,     # the second window of a recording lies at most so many seconds from the first
    same=0.,       # share of recordings whose two windows are one and the same
    schedule=0,    # 1: the teacher's momentum rises to 1 along half a cosine
    predictor=0,   # hidden units of a predictor on the student's instance vectors
    variance=0.,   # weight of variance and covariance terms on the instance vectors
    mask=0.,       # share of the frames that the student does not hear
    coarse=0.,     # weight of a second local loss, on means of three neighbouring moments
    seconds=None,  # length of the windows in training; the encoder is read at its usual one
    n_mels=64,     # bands of the log-mels
    norm=None,     # a shipped encoder whose normalisation is taken, instead of that of the sounds
    lr=1e-3,       # largest learning rate of the cycle
    bs=64)         # clips a step

class Nearby:
    "Windows of recordings whose second one lies near the first, or on it"
    n_inp,drawn = 1,None
    def __init__(self, ds, near=None, same=0.): store_attr()
    def __len__(self): return len(self.ds)
    def __getitem__(self, i): return tuple(o[0] for o in self.batch([i]))
    def __getattr__(self, k):
        if k.startswith('__') or k=='ds': raise AttributeError(k)
        return getattr(self.ds, k)
    def batch(self, i):
        at = np.asarray(i)
        drawn = np.random.rand(len(at), 2) if self.drawn is None else self.drawn[at]
        first,second = drawn.T
        if self.near is not None:
            ds = self.ds
            front = ds.read.front
            room = (ds.pack.lengths[ds.idxs[at]]/front.sr-front.duration).clip(1e-3)
            second = (first+(2*second-1)*self.near/room).clip(0, 1)
        second = np.where(np.random.rand(len(at))<self.same, first, second)
        i,front = self.ds.idxs[at],self.ds.read.front
        ws = [torch.from_numpy(self.ds.pack.windows(i, front.n_samples, pos, front.pad)) for pos in (first,second)]
        return AudioTensor(torch.stack(ws, 1), sr=front.sr),

class MomentumSchedule(Callback):
    "The teacher's momentum rises to 1"
    def before_fit(self): self.start = get_model(self.learn.model).momentum
    def before_batch(self):
        if self.training: get_model(self.learn.model).momentum = 1-(1-self.start)*(1+math.cos(math.pi*self.pct_train))/2
    def after_fit(self): get_model(self.learn.model).momentum = self.start

class MaskStudent(Callback):
    "The student does not hear a run of frames of each view; it hears the mean instead"
    order = SLICER.order+1
    def __init__(self, share): self.share = share
    def before_batch(self):
        if not self.training: return
        mean = get_model(self.learn.model).encoder.norm.mean
        self.learn.xb = tuple(self._mask(x, mean) for x in self.xb)
    def _mask(self, x, mean):
        n,width = x.shape[-1],8
        hide = (torch.rand(len(x), 1, 1, n//width, device=x.device)<self.share).repeat_interleave(width, -1)
        return torch.where(hide, mean, x)

class Predictor(Module):
    "The student's instance head, and a predictor after it that the teacher has not (BYOL, arXiv 2006.07733)"
    def __init__(self, head, d, hidden):
        self.head,self.on = head,True
        self.predict = nn.Sequential(nn.Linear(d, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, d))
    def forward(self, x): return self.head(x)+self.predict(self.head(x)) if self.on else self.head(x)

def add_predictor(learn, hidden):
    "Put a predictor on the student; the teacher has the same weights, unused"
    m = learn.model
    dim = m.queue.shape[1]
    m.student.instance = Predictor(m.student.instance, dim, hidden)
    m.teacher.instance = Predictor(m.teacher.instance, dim, hidden).requires_grad_(False)
    m.teacher.instance.on = False

def spread_loss(q):
    "Variance and covariance terms (VICReg, arXiv 2105.04906) of unit vectors (B, d)"
    z = q.float()*q.shape[1]**.5
    z = z-z.mean(0)
    short = F.relu(1-(z.var(0)+1e-4).sqrt()).mean()
    cov = (z.T@z)/(len(z)-1)
    return short+(cov-torch.diag(cov.diag())).square().sum()/z.shape[1]

class Spread(Callback):
    "Variance and covariance terms beside the losses"
    def __init__(self, weight): self.weight = weight
    def after_loss(self):
        if self.training: self.learn.loss_grad = self.learn.loss_grad+self.weight*sum(map(spread_loss, self.pred[:2]))

def coarse(z):
    "Unit vectors of means over three neighbouring moments (B, T, d)"
    means = F.avg_pool1d(z.float().mT, 3, stride=1, padding=1, count_include_pad=False).mT
    return F.normalize(means, dim=-1)

class CoarseLocal(Callback):
    "A second local loss, at a longer scale"
    def __init__(self, weight): self.weight = weight
    def after_loss(self):
        if not self.training: return
        moments,chosen = self.yb[4:6]
        loss = local_loss(coarse(self.pred[4])[chosen], coarse(moments)[chosen])
        self.learn.loss_grad = self.learn.loss_grad+self.weight*loss

def pack_of(data, keep):
    "The recordings of a pool, packed"
    return pack_audio(data, keep/'pack', files=[data/f for f in pd.read_csv(data/'pretrain.csv').files])

def part_of(idxs, share):
    "The same part of the recordings for every seed; a smaller part lies within a larger one"
    return np.sort(np.random.default_rng(0).permutation(idxs)[:round(share*len(idxs))])

def loaders(pack, o):
    "Loaders of recordings, random sounds, or both"
    front = FrontEnd(duration=ifnone(o['seconds'], FrontEnd().duration), n_mels=o['n_mels'])
    dls = SlicerDataLoaders.from_pack(pack, bs=o['bs'], num_workers=0, labels=False, front=front)
    if o['share']<1:
        ds = dls.train.dataset
        ds.idxs = part_of(ds.idxs, o['share'])
        dls.train.n = len(ds.idxs)
    if o['near'] is not None or o['same']: dls.train.dataset = Nearby(dls.train.dataset, o['near'], o['same'])
    if not o['synth']: return dls
    res = SlicerDataLoaders.from_synth(dls, o['synth'], bs=o['bs'], path=pack.path)
    res.train.dataset.spread = o['spread']
    return res

def train(pack, keep, net, settings, seed, clips, bf16):
    "One cycle of whole passes; the encoder's folder"
    o = {**extra, **settings}
    rest = {k:v for k,v in settings.items() if k not in extra}
    arch,kw = nets[net]
    set_seed(seed)
    dls = loaders(pack, o)
    if o['norm']:
        arch,kw = AudioEncoder(arch, front=front_end(dls), **kw),None
        arch.norm = AudioEncoder.from_pretrained(o['norm']).norm
    learn = SlicerLearner(dls, arch, arch_kwargs=kw, seed=seed, **rest)
    if not clips: return learn.encoder.untrained(seed)
    if o['predictor']: add_predictor(learn, o['predictor'])
    if bf16: learn.to_bf16()
    cbs = [Resume(keep/'state')]
    if o['schedule']: cbs.append(MomentumSchedule())
    if o['mask']: cbs.append(MaskStudent(o['mask']))
    if o['variance']: cbs.append(Spread(o['variance']))
    if o['coarse']: cbs.append(CoarseLocal(o['coarse']))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(max(1, round(clips/(len(dls.train)*dls.train.bs))), o['lr'], cbs=cbs)
    learn.encoder.save_pretrained(keep)
    return learn.encoder

def task_specs(ts, front, keep):
    "Log-mels of all windows of all tasks, computed once: {task: {split: (windows (n, 1, n_mels, frames), clip of each, labels, groups)}}"
    res = {}
    for task,splits in ts.items():
        fn = keep/f'specs{front.n_mels}'/f'{task}.pt'
        if not fn.exists():
            fn.parent.mkdir(parents=True, exist_ok=True)
            torch.save({s:(*_specs(front, files), y, g) for s,(files,y,g) in splits.items()}, fn)
        res[task] = torch.load(fn, mmap=True, weights_only=False)
    return res

def _specs(front, files):
    clips = [front.windows(read_window(f, None, front.sr)) for f in files]
    owner = torch.arange(len(clips)).repeat_interleave(tensor([len(o) for o in clips]))
    return torch.cat([front(o).as_subclass(Tensor).half() for o in clips]),owner

@torch.no_grad()
def features(enc, x, owner, bs=64):
    "What `embed` gives for clips whose windows `x` are there as log-mels (clips, d)"
    pools = [RunningPool(enc.pool, len(enc.layers)) for _ in range(int(owner.max())+1)]
    for b,clips in zip(x.split(bs), owner.split(bs)):
        parts = [o.float() for o in enc.parts(b.float())]
        stats = frame_stats(parts, enc.squared_changes(parts))
        for i in clips.unique().tolist(): pools[i].add([o[clips==i] for o in stats])
    return np.stack([o.result() for o in pools])

def judge(enc, specs, bf16=False):
    "Accuracy in % on validation and test clips of each task, and averages"
    res = {}
    for task,splits in specs.items():
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            at = {s:(features(enc, x, owner), np.array(y), np.array(g)) for s,(x,owner,y,g) in splits.items()}
        res[f'valid|{task}'] = 100*float(linear_probe(None, at['train'], at['valid']))
        res[f'test|{task}'] = 100*float(linear_probe(None, at['train'], at['test'], valid=at['valid']))
    mean = lambda split: np.mean([v for k,v in res.items() if k.startswith(split)])
    return dict(valid=mean('valid'), test=mean('test'), **res)

def settings_of(text): # 'synth=.5 near=1' → dict
    return {k:value(v) for k,v in (o.split('=', 1) for o in text.split() if '=' in o)}

def mel_bands(text, finer):
    "Of the run that a text names"
    bands = AudioEncoder.from_pretrained(text).front.n_mels if shipped(text).is_dir() else {**extra, **settings_of(text)}['n_mels']
    return 2*bands+1 if finer else bands

def encoder_of(pack, keep, net, text, seed, clips, bf16):
    "The encoder of a run: one that ships, one that is kept, or trained now"
    dest = keep/f"{net} {text} {clips} s{seed}{' bf16'*bf16}".replace(' ', '_')
    if (dest/'config.json').exists(): return AudioEncoder.from_pretrained(dest)
    if shipped(text).is_dir(): return AudioEncoder.from_pretrained(text)
    return train(pack, dest, net, settings_of(text), seed, clips, bf16)

def run(pack, specs, keep, net, text, seed, clips, bf16, finer):
    "Train and judge one setting; what goes into its row"
    t = time.time()
    enc = encoder_of(pack, keep, net, text, seed, clips, bf16)
    trained = time.time()-t
    if finer: enc = enc.finer()
    return dict(**{k:round(float(v), 2) for k,v in judge(enc.eval(), specs, bf16).items()}, train_seconds=round(trained), seconds=round(time.time()-t), error='')

#: What is tried unless other runs are named
tried = 'slicer-small | untrained | none | synth=.25 | synth=.5 | synth=1 | near=1 | same=.3 | predictor=512 | variance=.1 | mask=.3 | schedule=1'

@call_parse
def main(
    data:Path=None,    # folder with pretrain.csv and tasks/
    more:Path=None,    # folder with more tasks/
    runs:str=tried,    # settings of each run, with ` | ` between
    net:str='small',   # of benchmarks.recipe
    clips:int=15000,   # that each run sees, to the nearest whole pass
    seeds:int=1,       # how many
    first:int=0,       # the first of them
    bf16:store_true=False,           # train and judge in bfloat16
    keep:Path=Path('levers'),        # encoders, states, log-mels of the tasks
    out:Path=Path('levers.csv'),     # one row a run; rows that are there are not made again
):
    "Train and judge each setting"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    warnings.filterwarnings('ignore')
    data,keep,out = Path(data),Path(keep),Path(out)
    pack = pack_of(data, keep)
    ts = {**tasks(data), **(tasks(Path(more)) if more else {})}
    for seed,named in itertools.product(range(first, first+seeds), [o.strip() for o in runs.split('|')]):
        text,finer = named.removesuffix(' finer'),named.endswith(' finer')
        seen = 0 if text.startswith('untrained') or shipped(text).is_dir() else clips
        key = dict(net=net, run=named, seed=seed, clips=seen, bf16=int(bf16), tasks=len(ts))
        if any(all(o[k]==str(v) for k,v in key.items()) for o in read_rows(out)): continue
        specs = task_specs(ts, FrontEnd(n_mels=mel_bands(text, finer)), keep)
        try: res = run(pack, specs, keep, net, text, seed, seen, bf16, finer)
        except Exception as e:
            traceback.print_exc()
            res = dict(error=f'{type(e).__name__}: {e}'[:200])
        append_row(out, {**key, **res})
        print({**key, **res}, flush=True)
