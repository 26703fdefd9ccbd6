"""How fast random sounds are rendered: windows of 0.95 s a second, on so many threads, beside one window's log-mel spectrogram.

    python -m benchmarks.random_sounds [--threads 2] [--cpu]

A pair is two windows. `--cpu` counts the processor's time instead of the clock's: a figure that other work on the machine disturbs less, given for one core.
"""
from concurrent.futures import ThreadPoolExecutor
from fastcore.script import call_parse, store_true
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.audio.random_synth import *
from . import count_cpu, in_turn

def rendered(n, threads):
    "Render `n` pairs, a share in each thread"
    with ThreadPoolExecutor(threads) as ex: return torch.cat([*ex.map(random_sounds, [n//threads]*threads)])

@call_parse
def main(
    n:int=256,           # pairs at a time
    threads:int=2,       # that render side by side
    runs:int=5,          # the median counts
    cpu:store_true=False, # count the processor's time
):
    "Time random sounds and, of as many windows, log-mels"
    torch.set_num_threads(1)
    count_cpu(cpu)
    waves = AudioTensor(random_sounds(n), sr=16000)
    front = FrontEnd()
    res = in_turn(dict(rendering=lambda: rendered(n, threads), logmel=lambda: front(waves)), runs)
    what = 'a core' if cpu else f'on {threads} threads'
    print(f"rendering: {2*n/res['rendering']:,.0f} windows a second {what}, {n/res['rendering']:,.0f} pairs")
    print(f"log-mels:  {2*n/res['logmel']:,.0f} windows a second {'a core' if cpu else 'on 1 thread'}")
