"""What decides before any learning: the level of a window, and whether frames or windows are pooled. Untrained AudioNTT, ridge classifiers on each task.

    python -m benchmarks.readings --data PATH [--seeds 2] [--d 512 --width 32]

PATH and probes as for benchmarks.ablate, scored on validation clips. 'level …': what every window is brought to; 'windows': each window pooled by itself, the
clip is their average, where otherwise all frames of a clip are pooled at once.
"""
import warnings
from fastcore.script import call_parse, CliError
from slicer_fastai.all import *
from benchmarks.ablate import probe, tasks

def untrained(level, files, **kwargs):
    "An encoder that has seen the mean and spread of `files`, no more"
    front = FrontEnd(level=level)
    enc = AudioEncoder('audiontt', front=front, **kwargs)
    enc.norm.fit(front.specs(files))
    return enc

@call_parse
def main(
    data:Path=None,  # folder with pretrain.csv and tasks/
    seeds:int=2,     # encoders of each kind; the figure is their average
    d:int=512,       # size of AudioNTT
    width:int=32,    # its channels
):
    "Probe untrained encoders by level and by pooling"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    warnings.filterwarnings('ignore')
    ts,files,rows = tasks(Path(data)),[Path(data)/f for f in pd.read_csv(Path(data)/'pretrain.csv').files.sample(512, random_state=0)],[]
    windows = lambda e,fs: np.stack([w.mean(0) for w in e.embed(fs, level='window', progress=False)])
    clips = lambda e,fs: e.embed(fs, progress=False)
    for what,level,read in (('level None',None,clips), ('level rms','rms',clips), ('level peak','peak',clips), ('level peak, windows','peak',windows)):
        enc = untrained(level, files, d=d, width=width)
        for s in range(seeds):
            e = enc.untrained(s)
            rows.append(dict(what=what, seed=s, **probe(partial(read, e), ts)))
            print({k:round(v, 1) if isinstance(v, float) else v for k,v in rows[-1].items()}, flush=True)
    print(pd.DataFrame(rows).drop(columns='seed').groupby('what', sort=False).mean().round(1).to_string())
