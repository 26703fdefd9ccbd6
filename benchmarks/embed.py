"""Seconds and memory to embed long files and many short ones.

    python -m benchmarks.embed [--d 2048] [--width 64] [--what '3h 44.1 kHz stereo']

Each case runs in a process of its own: peak memory of the process above what it holds once the encoder is made and has embedded one window.
"""
import subprocess, sys, tempfile, time
import numpy as np, soundfile as sf
from pathlib import Path
from fastcore.script import call_parse

CASES = {'10 s':(10,16000,1,'wav'), '20 min':(1200,16000,1,'wav'), '3 h':(10800,16000,1,'wav'), '3 h 44.1 kHz stereo':(10800,44100,2,'wav'),
         '3 h flac':(10800,16000,1,'flac'), '3 h mp3':(10800,44100,1,'mp3'), '1,000 files of 1.5 s':None}

def write(fn, secs, sr, ch):
    "Noise of `secs` seconds, written a minute at a time"
    rng = np.random.default_rng(0)
    with sf.SoundFile(fn, 'w', sr, ch) as f:
        for _ in range(max(1, secs//60)): f.write((rng.normal(size=(min(secs, 60)*sr, ch))*.1).astype(np.float32))

CHILD = '''
import sys, time, json
from slicer_fastai.all import *
from benchmarks import Grown
path,d,width = sys.argv[1],int(sys.argv[2]),int(sys.argv[3])
torch.set_num_threads(1)
enc = AudioEncoder('audiontt', d=d, width=width)
enc.embed(np.zeros(16000, np.float32)+.1, sr=16000)
t0,c0 = time.time(),time.process_time()
with Grown() as grown: v = enc.embed(path, progress=False)
t0,c0 = time.time()-t0,time.process_time()-c0
assert np.isfinite(v).all()
print(json.dumps(dict(vectors=len(v), seconds=round(t0,1), processor=round(c0,1), MB=round(grown.mb))))
'''

@call_parse
def main(
    d:int=2048,      # size of AudioNTT
    width:int=64,    # its channels
    what:str='',     # one case only
):
    "Embed long files and many short ones"
    with tempfile.TemporaryDirectory() as t:
        for name,c in CASES.items():
            if what and name!=what: continue
            p = Path(t)/'many' if c is None else Path(t)/f'a.{c[3]}'
            if c is None:
                p.mkdir()
                for i in range(1000): write(p/f'{i:04d}.wav', 1, 24000, 1)
            else: write(p, *c[:3])
            r = subprocess.run([sys.executable, '-W', 'ignore', '-c', CHILD, str(p), str(d), str(width)], capture_output=True, text=True)
            print(f'{name:22s}', r.stdout.strip() or r.stderr[-500:], flush=True)
            if c: p.unlink()
