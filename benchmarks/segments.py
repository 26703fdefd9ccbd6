"""Index of a million segments of long recordings: seconds and memory.

    python -m benchmarks.segments [--hours 1] [--n 2778] [--segment 10]

`n` links lead to one recording of `hours` hours (sparse: silence that takes no disk). Memory is what is added to the peak after the imports; the first batch is read with them.
"""
import resource, struct, tempfile, time
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *

def sparse_wav(fn, seconds, sr=16000):
    "A wav file of silence without any block on the disk"
    n = int(seconds*sr)*2
    head = b'RIFF'+struct.pack('<I', n+36)+b'WAVEfmt '+struct.pack('<IHHIIHH', 16, 1, 1, sr, sr*2, 2, 16)+b'data'+struct.pack('<I', n)
    with open(fn, 'wb') as f:
        f.write(head)
        f.truncate(len(head)+n)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

@call_parse
def main(
    hours:float=1.,     # of each recording
    n:int=2778,         # recordings
    segment:float=10.,  # seconds
):
    "Measure `SlicerDataLoaders.from_lists(…, segment=)` and the first batch"
    with tempfile.TemporaryDirectory() as d:
        sparse_wav(f'{d}/one.wav', hours*3600)
        names = [Path(f'{d}/{i:06d}.wav') for i in range(n)]
        for o in names: o.symlink_to('one.wav')
        SlicerDataLoaders.from_lists(d, names[:4], bs=2, num_workers=0, device='cpu').one_batch()
        before,start,at = peak(),time.process_time(),time.time()
        dls = SlicerDataLoaders.from_lists(d, names, segment=segment, bs=64, num_workers=0, device='cpu')
        made = time.time()-at
        dls.one_batch()
        print(f'{len(dls.train_ds)+len(dls.valid_ds):,} segments: made in {made:.1f} s, first batch after {time.time()-at:.1f} s '
              f'({time.process_time()-start:.1f} s of processor time), {peak()-before:.0f} MB')
