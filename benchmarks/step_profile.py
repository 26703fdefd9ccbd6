"""Where a training step's time goes, by kind of operation, beside what the processor could do at best.

    python -m benchmarks.step_profile [--bs 64] [--net small] [--csv step_profile.csv]

One thread, the defaults of `SlicerLearner` (two windows, local loss), on noise. Beside it the operations of the convolutions and linear layers, counted (student forward and twice that
backward, teacher forward), and the rate of a large matrix product: what a step would take if all else cost nothing and every layer ran at that rate.
The parts are measured by the clock, their shares are of their sum; the step as a whole in processor time. For an idle machine.
"""
import time, warnings
from torch.utils.flop_counter import FlopCounterMode
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from benchmarks import *
from .recipe import nets

#: Kinds of operation, by the beginnings of their names
kinds = {
    'convolution, forward':  ('mkldnn_convolution','thnn_conv','slow_conv'),
    'convolution, backward': ('convolution_backward','mkldnn_convolution_backward'),
    'batch norm':            ('native_batch_norm','batch_norm','cudnn_batch_norm'),
    'pooling and ReLU':      ('max_pool2d','relu','threshold','clamp_min'),
    'linear layers, losses': ('addmm','mm','bmm','linear','logsumexp','softmax','_log_softmax','_softmax'),
    'optimiser and teacher': ('_foreach','lerp','_fused','add_','mul_','addcdiv','addcmul')}

def kind_of(op):
    name = op.removeprefix('aten::')
    return next((kind for kind,starts in kinds.items() if name.startswith(starts)), 'all else')

def loaders(bs, n):
    "`n` batches of noise"
    waves = np.random.default_rng(0).normal(0, .1, (round(bs*n*1.12), 16000)).astype(np.float32)
    return SlicerDataLoaders.from_lists('.', [(o,16000) for o in waves], bs=bs, num_workers=0, valid_pct=.1)

class Profile(Callback):
    "Profile the steps of an epoch, validation left out"
    def before_train(self):
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        self.profile.__enter__()
        self.begun = time.process_time()
    def after_train(self):
        self.seconds = time.process_time()-self.begun
        self.profile.__exit__(None, None, None)
        self.events = self.profile.key_averages()

def best_gflops(n=2048)->float:
    "Billions of operations a second of a large matrix product"
    a = torch.randn(n, n)
    a@a
    begun = time.process_time()
    a@a
    return 2e-9*n**3/(time.process_time()-begun)

class Count(Callback):
    "Count the operations of one training step"
    def before_train(self):
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()
    def after_batch(self):
        if self.training: raise CancelTrainException
    def after_train(self): self.counter.__exit__(None, None, None)

def counted_gflop(learn)->float:
    "Billions of operations of a step in convolutions and matrix products"
    count = Count()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3, cbs=count)
    return count.counter.get_total_flops()/1e9

@call_parse
def main(
    bs:int=64,         # clips a step
    net:str='small',   # of benchmarks.recipe
    n:int=5,           # steps that are measured
    csv:Path=None,     # write the table there too
):
    "The time of a training step by kind of operation"
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    arch,kw = nets[net]
    learn = SlicerLearner(loaders(bs, n), arch, arch_kwargs=kw, seed=0)
    look = Profile()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
        learn.fit(1, 1e-3, cbs=look)
    ms = Counter()
    for e in look.events: ms[kind_of(e.key)] += e.self_cpu_time_total/1e3/n
    total = 1e3*look.seconds/n
    profiled = sum(ms.values())                     # by the clock: on a busy machine more than the processor's time
    df = pd.DataFrame([dict(part=k, ms=round(v), share=f'{v/profiled:.0%}') for k,v in ms.most_common()])
    if csv: df.to_csv(csv, index=False)
    print(df.to_string(index=False))
    print(f'{total:.0f} ms a step of {bs} clips, {net}; one thread, processor time, mean of {n} steps; a large matrix product here: {best_gflops():.0f} GFLOP/s')
    gflop = counted_gflop(learn)
    print(f'{gflop:.0f} GFLOP in convolutions and linear layers: {gflop/total*1e3:.0f} GFLOP/s')
