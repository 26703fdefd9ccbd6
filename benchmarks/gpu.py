"""What a GPU is for: the published network at batch 512 in bfloat16, ours against the reference's choices at equal clips. One command, resumable.

    python -m benchmarks.gpu --data PATH --bundle-to OUT [--mb 60]      # where the sounds are: a part of them, at most so many MB, with the tasks
    python -m benchmarks.gpu --data OUT --out gpu.csv                # where the GPU is: packs, measures, trains, probes; rows that are there are not run again

PATH as for benchmarks.ablate. 'speed' rows: clips a second of the learner, of the bare network's forward and backward on the same batch, and the share of the time
that this is; 'train' rows: probes on validation clips after `clips` clips seen. `--arch-kwargs '{"d":32,"width":8}' --bs 16 --clips 64` is a try on a processor.
"""
import itertools, json, shutil, time, warnings
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from .ablate import tasks, probe, read_rows, append_row

recipes = {'default':{}, 'reference':{**lape_preset, 'level':None, 'windows':1}}

def bundle(data, out, mb):
    "Copy the tasks, and files of the pool in random order until `mb` MB are full"
    out.mkdir(parents=True); room,kept = mb*1e6,[]
    for c in sorted((data/'tasks').glob('*.csv')):
        (out/'tasks').mkdir(exist_ok=True); shutil.copy(c, out/'tasks')
        for p in pd.read_csv(c).path:
            (out/p).parent.mkdir(parents=True, exist_ok=True); room -= (out/shutil.copy(data/p, out/p)).stat().st_size
    for f in pd.read_csv(data/'pretrain.csv').files.sample(frac=1, random_state=0):
        if (size := (data/f).stat().st_size)>room: continue
        (out/f).parent.mkdir(parents=True, exist_ok=True); shutil.copy(data/f, out/f); room -= size; kept.append(f)
    pd.DataFrame(dict(files=kept)).to_csv(out/'pretrain.csv', index=False)
    print(f'{out}: {len(kept)} clips, {mb-room/1e6:.0f} MB with the tasks')

def learner(pack, name, seed, bs, arch_kwargs, workers):
    "A learner of a recipe on the packed pool, in bfloat16 on a GPU"
    set_seed(seed); cfg = dict(recipes[name])
    kw = {k:cfg.pop(k) for k in ('level','windows') if k in cfg}
    cfg['arch_kwargs'] = {**cfg.get('arch_kwargs', {}), **arch_kwargs}
    dls = SlicerDataLoaders.from_pack(pack, bs=bs, num_workers=workers, labels=False, **kw)
    learn = SlicerLearner(dls, seed=seed, **cfg)
    return learn.to_bf16() if dls.device.type=='cuda' else learn

def sync(): torch.cuda.synchronize() if torch.cuda.is_available() else None

class Clock(Callback):
    "Seconds of the steps of training, the first ten left out"
    def before_fit(self): self.n,self.t = 0,None
    def before_validate(self): raise CancelValidException
    def after_batch(self):
        if self.n==10: sync(); self.t = time.time()
        self.n += 1
    def after_fit(self): sync(); self.rate = (self.n-11)*self.dls.bs/(time.time()-self.t) if self.n>11 else math.nan

def bare(learn, n=20):
    "Clips a second of the student's forward and backward alone, both views"
    m,x = learn.model.train(),learn.dls.one_batch()[0]
    v = torch.cat(m.views(x))
    def step():
        with torch.autocast(v.device.type, dtype=torch.bfloat16, enabled=v.is_cuda): m.student(v)[0].sum().backward()
        m.zero_grad()
    for _ in range(3): step()
    sync(); t = time.time()
    for _ in range(n): step()
    sync(); return n*len(x)/(time.time()-t)

def train(learn, clips, cbs=()):
    "One cycle over so many clips"
    epochs = max(1, round(clips/(len(learn.dls.train)*learn.dls.bs)))
    t = time.time()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, cbs=cbs)
    return epochs*len(learn.dls.train)*learn.dls.bs,time.time()-t

@call_parse
def main(
    data:Path=None,       # folder with pretrain.csv and tasks/
    bundle_to:Path=None,  # only copy a part of it here
    mb:float=60,          # size of that part
    out:Path=Path('gpu.csv'), # one row a run
    clips:str='100000,500000', # clips seen, with commas between
    seeds:int=1,          # of each run
    bs:int=512,           # batch size
    workers:int=0,        # worker processes: packs need none
    arch_kwargs:str='{}', # json, of the network; default: as published, d=2048, width 64
):
    "Measure and train on a GPU"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    warnings.filterwarnings('ignore'); data = Path(data)
    if bundle_to: return bundle(data, Path(bundle_to), mb)
    kw,ts = json.loads(arch_kwargs),tasks(data)
    pack = pack_audio(data, data/'pack', files=[data/f for f in pd.read_csv(data/'pretrain.csv').files])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'processor'
    score = lambda e: {k:round(v, 2) for k,v in probe(partial(embed, e, progress=False), ts).items()}
    def once(what, name, seed, n, f):
        key = dict(what=what, recipe=name, seed=str(seed), clips=str(n), bs=str(bs), arch=arch_kwargs)
        if any(all(r.get(k)==v for k,v in key.items()) for r in read_rows(Path(out))): return
        append_row(Path(out), r := dict(key, device=device, **f())); print(r, flush=True)
    for name in recipes:
        def speed():
            learn,c = learner(pack, name, 0, bs, kw, workers),Clock()
            train(learn, 60*bs, [c]); b = bare(learn)
            return dict(clips_per_second=round(c.rate), bare=round(b), share=round(c.rate/b, 3))
        once('speed', name, 0, 60*bs, speed)
    once('train', 'untrained', 0, 0, lambda: score(learner(pack, 'default', 0, bs, kw, workers).encoder))
    for n,seed,name in itertools.product(map(int, clips.split(',')), range(seeds), recipes):
        def run():
            learn = learner(pack, name, seed, bs, kw, workers)
            seen,secs = train(learn, n)
            return dict(seen=seen, seconds=round(secs), **score(learn.encoder))
        once('train', name, seed, n, run)
