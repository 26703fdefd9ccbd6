"""Several processes train one model: clips a second of 1 and 2, what a step sends, and what batch norm does to equality.

    python -m benchmarks.processes [--steps 8] [--bs 32] [--out processes.csv]

Clips a second are counted in time of the processor, one thread a process: what an idle core does, however busy the machine is. Two processes: the sum of both.
Bytes: what one process sends and receives in a step: gradients by a ring all-reduce, 2·(p-1)/p·4·parameters; keys and cluster rows of the p-1 others.
Equality: weights after 10 steps of two processes with bs=16 against one with 32, as a share of the distance they went, without and with batch norm.
"""
import tempfile, torch.multiprocessing as mp
from contextlib import nullcontext
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.core.processes import join_processes
from slicer_fastai.audio.synth import synth_sounds

class NoNorm(nn.Sequential):
    "An encoder without batch norm"
    def __init__(self): super().__init__(nn.Conv2d(1, 8, 8, 8), nn.GELU(), nn.Conv2d(8, 16, (2,4), (2,4)), nn.GELU())

class Timer(Callback):
    "Seconds of the processor after the first two steps"
    def after_batch(self):
        if self.training: self.seen.append(time.process_time())
    def before_fit(self): self.seen = []
    @property
    def per_step(self): return (self.seen[-1]-self.seen[1])/(len(self.seen)-2)

def learner(path, bs, n, arch='audiontt', **kwargs):
    set_seed(3)
    files = get_audio_files(path)
    files = (files*math.ceil((n+10)/len(files)))[:n+10]
    dls = SlicerDataLoaders.from_lists(tempfile.gettempdir(), files, valid_idx=range(n, n+10), bs=bs, num_workers=0, device='cpu', windows=2)
    return SlicerLearner(dls, arch, **kwargs)

def fit(learn, lr):
    t = Timer()
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx() if num_distrib()>1 else nullcontext(): learn.fit(1, lr, cbs=t)
    return t.per_step

speed_kw = dict(arch_kwargs=dict(d=512, width=32))
same_kw = dict(tfms='', queue_size=160, dim=16, n_clusters=8, hidden=32, opt_func=SGD)
same_nets = dict(none=lambda: dict(arch=NoNorm()), batch=lambda: dict(arch='audiontt', arch_kwargs=dict(d=32, width=8)))

def weights(path, bs, steps, net):
    "Weights at the start, and after so many steps of 32 clips"
    set_seed(3)                                                         # the network's weights
    learn = learner(path, bs, 32*steps, **net(), **same_kw)
    for o in learn.model.modules():
        if isinstance(o, nn.Dropout): o.p = 0.                          # random
    flat = lambda: torch.cat([p.detach().flatten().clone() for p in learn.model.student.parameters()])
    w = flat(); fit(learn, .05)
    return w,flat()

def _work(rank, path, steps, bs, out):
    "One of two processes"
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT='29511')
    torch.set_num_threads(1); join_processes(cpu=True)
    res = dict(step=fit(learner(path, bs, 2*bs*steps, **speed_kw), 1e-3), **{k:weights(path, 16, 10, f) for k,f in same_nets.items()})
    torch.save(res, out/f'{rank}.pt')

@call_parse
def main(
    steps:int=8,      # of each run
    bs:int=32,        # clips of a step, in each process
    out:Path=None,    # write the table: .csv
):
    "Clips a second and equality of 1 and 2 processes"
    torch.set_num_threads(1); default_device(False); warnings.simplefilter('ignore')
    path,tmp = synth_sounds(n=3),Path(tempfile.mkdtemp())
    mp.start_processes(_work, args=(path, steps, bs, tmp), nprocs=2, start_method='fork')
    two,learn = [torch.load(tmp/f'{r}.pt') for r in (0,1)],learner(path, bs, bs*steps, **speed_kw)
    m,rates = learn.model,[bs/fit(learn, 1e-3), sum(bs/o['step'] for o in two)]
    grads = 4*sum(p.numel() for p in m.parameters() if p.requires_grad)
    rows = 4*2*bs*(m.queue.shape[1]+m.student.cluster[-1].out_features)
    res = [('clips a second, 1 process', rates[0]), ('clips a second, 2 processes', rates[1]), ('as a multiple', rates[1]/rates[0]),
           ('gradients, MB a process', grads/1e6), ('keys and cluster rows, MB a process', rows/1e6)]
    for k,f in same_nets.items():
        (w,one),a = weights(path, 32, 10, f),two[0][k][1]
        res.append((f'2 × 16 against 32 clips, batch norm: {k}; share of the way', float((a-one).norm()/(one-w).norm())))
    df = pd.DataFrame(res, columns=['what','value'])
    print(df.to_string(index=False, float_format=lambda v: f'{v:.3g}'))
    if out: df.to_csv(out, index=False)
