"""How well are events found in recordings? Recordings built from labelled clips over real backgrounds, detectors on several encoders, and rounds of correcting.

    python -m benchmarks.field --data PATH                 # rows go into field.csv, recordings and vectors into field_recordings/
    python -m benchmarks.field --data PATH --rounds 5      # what correcting is worth, proposed places against random ones: field_rounds.csv

PATH holds pretrain.csv (column `files`: backgrounds) and tasks/TASK.csv (path, label, split, group: test clips are of groups that no other clip is of).
Every recording has its own background: eight pieces of ambience or music, faded into each other. Events lie at random times, 0 to 20 dB above it, some over
each other; they last from the first to the last moment within 40 dB of their loudest. Average precision by events (any overlap), 0…1, on the test
recordings, with a 95 % interval over recordings; `places`: annotated events of each class. `draw`: which of the training recordings are annotated.
Everything about the method was chosen on the validation recordings (--on valid). Rows that are there are not made again.
"""
import warnings
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.field.annotations import *
from slicer_fastai.field.events import *
from slicer_fastai.field.detect import *
import soundfile as sf

sr = 16000
is_background = re.compile('ambien|_ambi_|music', re.I).search      # names of clips that hold no event of the kinds that are annotated

def background(rng, files, seconds):
    "Eight of `files`, one after the other and again, faded into each other, each at a root mean square of 0.01"
    n,fade = int(seconds*sr),sr//2
    pieces = []
    for file in rng.permutation(files):
        x = read_window(file, 12., sr, pos=.5)
        loud = np.sqrt(np.mean(x**2))
        if len(x)<3*sr or loud<1e-4: continue
        x = x*np.float32(.01/loud)
        x[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        x[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        pieces.append(x)
        if len(pieces)==8: break
    wave,at = np.zeros(n, np.float32),0
    while at<n:
        x = pieces[rng.integers(len(pieces))][:n-at]
        wave[at:at+len(x)] += x
        at += max(1, len(x)-fade)
    return wave

def audible(x):
    "A sound from the first to the last 10 ms whose peak is within 40 dB of the loudest"
    step = sr//100
    peak = abs(np.pad(x, (0, -len(x)%step))).reshape(-1, step).max(1)
    loud = np.flatnonzero(peak>.01*peak.max())
    return x[loud[0]*step:(loud[-1]+1)*step]

def recording(rng, clips, backgrounds, seconds, each):
    "A recording and its events: `each` clips of every class"
    wave,events = background(rng, backgrounds, seconds),[]
    for label,files in clips.items():
        for file in rng.choice(files, each):
            x = audible(read_window(file, 4., sr, pos=0.))
            at = int(rng.integers(0, len(wave)-len(x)))
            gain = .01/(np.sqrt(np.mean(x**2))+1e-6)*10**(rng.uniform(0, 20)/20)
            wave[at:at+len(x)] += x*np.float32(gain)
            events.append((at/sr, (at+len(x))/sr, label))
    return wave,sorted(events)

def build(data, task, keep, seconds, each, counts, seed=0):
    "Recordings of each split with their events: a table with a column split"
    done = keep/'events.csv'
    if not done.exists():
        keep.mkdir(parents=True, exist_ok=True)
        table = pd.read_csv(data/'tasks'/f'{task}.csv')
        pool = [data/f for f in pd.read_csv(data/'pretrain.csv').files if is_background(f)]
        rows = []
        for i_split,(split,n) in enumerate(counts.items()):
            own = table[table.split==split]
            clips = {l:[data/'tasks'/f if (data/'tasks'/f).exists() else data/f for f in g.path] for l,g in own.groupby('label')}
            for i in range(n):
                rng = np.random.default_rng([seed, i_split, i])
                wave,events = recording(rng, clips, pool[i_split::len(counts)], seconds, each)
                file = f'{split}_{i:02d}.flac'
                sf.write(keep/file, wave/max(1, abs(wave).max()), sr)
                rows += [(file,*o,split) for o in events]
        pd.DataFrame(rows, columns='file start end label split'.split()).to_csv(done, index=False)
    events = read_annotations(done, verbose=False)
    return events.assign(split=[Path(o).name.split('_')[0] for o in events.file])
