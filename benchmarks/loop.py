"""An epoch of `SlicerLearner.fit` against the same steps in a bare PyTorch loop, in turn, in one process.

    python -m benchmarks.loop [--data PATH] [--runs 5]

Without --data the embedded sounds are used. Prints seconds of each epoch, medians, and the ratio learner / bare loop.
"""
import time, warnings
from statistics import median
from fastcore.script import call_parse
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from slicer_fastai.audio.synth import *

def bare_epoch(learn):
    "The steps of SLICER with nothing around them; torch's AdamW for fastai's Adam"
    m = learn.model.train()
    opt = torch.optim.AdamW(m.student.parameters(), lr=1e-4)
    for b in learn.dls.train:
        x = b[0].as_subclass(Tensor)
        v,ks = m.prepare(x)
        m.loss(m(*v), *ks).loss.backward()
        opt.step(); opt.zero_grad()
        m.update_teacher(); m.enqueue(*ks[:2]); m.views.push(x)

def seconds(f, *args):
    t = time.perf_counter(); f(*args); return time.perf_counter()-t

class TrainOnly(Callback):
    "No validation: the bare loop has none"
    def before_validate(self): raise CancelValidException

def fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4, cbs=TrainOnly())

@call_parse
def main(
    data:Path=None,    # a folder of audio files; default: the embedded sounds
    runs:int=5,        # epochs of each
    bs:int=64,         # batch size
    d:int=512,         # size of the embedding
    width:int=32,      # channels of the convolutions
):
    "Learner against bare loop"
    warnings.filterwarnings('ignore')
    dls = SlicerDataLoaders.from_folder(data or synth_sounds(), bs=bs, num_workers=0)
    learn = SlicerLearner(dls, arch_kwargs=dict(d=d, width=width))
    fit(learn); bare_epoch(learn)                                 # warm up
    ts = [(seconds(fit, learn), seconds(bare_epoch, learn)) for _ in range(runs)]
    a,b = [median(o) for o in zip(*ts)]
    for l,r in ts: print(f'learner {l:6.2f} s   bare loop {r:6.2f} s   ratio {l/r:.3f}')
    print(f'median: learner {a:.2f} s, bare loop {b:.2f} s; median ratio {median(l/r for l,r in ts):.3f}; {torch.get_num_threads()} threads, {len(dls.train)} steps of {bs}')
