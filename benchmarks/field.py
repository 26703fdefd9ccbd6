"""How well are events found in recordings? Recordings built from labelled clips over real backgrounds, detectors on several encoders, and rounds of correcting.

    python -m benchmarks.field --data PATH                 # rows go into field.csv, recordings and vectors into field_recordings/
    python -m benchmarks.field --data PATH --rounds 5      # what correcting is worth, proposed places against random ones: field_rounds.csv
    python -m benchmarks.field --data PATH --on valid --names slicer-small --choices 0.002 --out choices.csv    # another regularisation, chosen on validation recordings

PATH holds pretrain.csv (column `files`: backgrounds) and tasks/TASK.csv (path, label, split, group: test clips are of groups that no other clip is of).
Every recording has its own background: eight pieces of ambience or music, faded into each other. Events lie at random times, 0 to 20 dB above it, some over
each other; they last from the first to the last moment within 40 dB of their loudest. Average precision by events (`ap`: starts within --collar, half
a second; `ap_1s`: within a second, the library's default; `precision_half`, `recall_half`: of the events with a score of .5 or more, so), 0…1, on the test recordings, with a 95 % interval over recordings; `places`: annotated events of each class. `draw`: which of the training recordings are annotated.
Everything about the method was chosen on the validation recordings (--on valid). Rows that are there are not made again.
"""
import warnings
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.field.annotations import *
from slicer_fastai.field.events import *
from slicer_fastai.field.detect import *
import slicer_fastai.field.detect as detect
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

own_name = re.compile(r'own(_warm)?(?:_(\d+)s)?(?:_(1e-\d))?$').match    # pre-trained here: from nothing or warm, on segments of some seconds, at a rate

def pretrained(folder, files, warm, seconds, rate, clips):
    "An encoder of slicer-small's architecture that heard recordings without their annotations; kept in `folder`"
    if not (folder/'config.json').exists():
        set_seed(0)
        small = AudioEncoder.from_pretrained('slicer-small')
        dls = SlicerDataLoaders.from_lists('.', files, segment=seconds, num_workers=0, front=small.front)
        start = dict(arch=small) if warm else dict(arch=small.arch, arch_kwargs=small.kwargs)
        learn = SlicerLearner(dls, **start)
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(max(1, round(clips/len(dls.train_ds))), rate)
        learn.encoder.save_pretrained(folder)
    return AudioEncoder.from_pretrained(folder)

def encoders(names, folder=None, files=None, clips=None):
    """What is compared, by name: slicer-small, untrained (or untrained1 … for another seed), logmel, folders of save_pretrained, or pre-trained on
    `files` and kept in `folder`: own from nothing, own_warm from slicer-small, own_2s on segments of so many seconds (10), own_2s_1e-4 at that rate"""
    small = AudioEncoder.from_pretrained('slicer-small')
    def make(name):
        if own := own_name(name):
            warm,seconds,rate = own.groups()
            return pretrained(folder/name, files, bool(warm), float(seconds or 10), float(rate or (1e-4 if warm else 1e-3)), clips)
        if name=='slicer-small': return small
        if name.startswith('untrained'): return small.untrained(int(name.removeprefix('untrained') or 0))
        if name!='logmel': return AudioEncoder.from_pretrained(name)
        mel = AudioEncoder(small.arch, front=small.front, layers='logmel', pool='mean+std', **small.kwargs)
        mel.norm.load_state_dict(small.norm.state_dict())
        mel.body.load_state_dict(small.body.state_dict())   # not read, but an index tells encoders apart by all weights
        return mel.eval()
    return {o:make(o) for o in names}

def indexed(encoder, files, folder, hop):
    "An index of the recordings, kept in a folder"
    if (folder/'index.json').exists(): return SoundIndex.load(folder, encoder)
    index = encoder.index(files, hop=hop)
    index.save(folder)
    return index

def judge(detector, index, annotated, collar):
    "Average precision of events: its mean over the classes, and its bootstrap over recordings (draws,)"
    result = evaluate_events(detector.detect(index, threshold=.02), annotated, collar, sorted(annotated.file.unique()))
    drawn = [[result.average_precision(l, w) for w in result.draws[:200]] for l in result.labels]
    own = {l:result.average_precision(l) for l in result.labels}
    low,high = np.nanquantile(np.nanmean(drawn, 0), [.025,.975])
    loose = evaluate_events(result.found, annotated, 1., result.recordings)
    within_a_second = np.mean([loose.average_precision(l) for l in result.labels])
    by_seconds = np.mean([result.by_seconds(l) for l in result.labels])
    sure = loose.found.score.to_numpy()>=.5
    right = loose.right[sure].sum()
    row = dict(ap=np.mean([*own.values()]), low=low, high=high, ap_1s=within_a_second, by_seconds=by_seconds,
               precision_half=right/max(1, sure.sum()), recall_half=right/len(annotated))
    return {**row, **{f'ap|{l}':v for l,v in own.items()}},np.nanmean(drawn, 0)

def truth(places, annotated):
    "What somebody who listens would say of places: the class of the event that fills half of it or lies half in it, or none; a place with less of one is left open"
    labels,clear = [],[]
    for o in places.itertuples():
        own = annotated[annotated.file==o.file]
        shared = overlap(o.start, o.end, own.start.to_numpy(), own.end.to_numpy())
        best = own.iloc[int(shared.argmax())]
        there = shared.max()>=.5*min(o.end-o.start, best.end-best.start)
        labels.append(best.label if there else '')
        clear.append(there or shared.max()<.05)
    return places.assign(found=places.label, label=labels, checked=clear)

class Rows:
    "A table that is written row by row"
    def __init__(self, fn): self.fn,self.rows = Path(fn),pd.read_csv(fn).to_dict('records') if Path(fn).exists() else []
    def has(self, **key): return any(all(str(o.get(k))==str(v) for k,v in key.items()) for o in self.rows)
    def add(self, **row):
        self.rows.append(row)
        pd.DataFrame(self.rows).round(4).to_csv(self.fn, index=False)
        print({k:round(float(v), 3) if isinstance(v, float) else v for k,v in row.items() if '|' not in k}, flush=True)

def correct(encoder, start, pool, indices, test, collar, how, k, rounds, draw, rows):
    "Rounds of proposing, listening and training again"
    key = dict(draw=draw, how=how, places=k)
    if rows.has(**key, round=rounds): return
    detector = encoder.detector(start)
    for i in range(rounds+1):
        if not rows.has(**key, round=i): rows.add(**key, round=i, **judge(detector, indices['test'], test, collar)[0])
        if i==rounds: break
        detector = detector.learn_from(truth(detector.propose(indices['pool'], k, how, seed=100*draw+i), pool))

def without(index, files):
    "A copy of an index without some recordings"
    res = copy(index)
    res.__dict__.pop('standardised', None)
    return res.remove(list(files))

@call_parse
def main(
    data:Path=None,            # folder with pretrain.csv and tasks/
    task:str='sound_event',    # whose clips are the events
    names:str='slicer-small untrained logmel', # encoders: these, own …, see `encoders`, or folders of save_pretrained
    clips:int=8000,            # segments that own … hear, of all training recordings without their annotations
    keep:Path=Path('field_recordings'), # recordings that are built, and their vectors
    out:Path=Path('field.csv'),# a row each
    seconds:float=300.,        # of a recording
    each:int=5,                # events of each class in a recording
    n_train:int=20,            # training recordings
    n_valid:int=6,             # validation recordings
    n_test:int=12,             # test recordings
    on:str='test',             # recordings that are judged: test, or valid
    sizes:str='2 10',          # training recordings that are annotated
    draws:int=2,               # choices of these, without overlap while there are enough
    hop:float=.2375,           # seconds from window to window
    collar:float=.5,           # seconds that starts may differ by
    choices:str=None,          # of the regularisation, instead of the library's (a column of the rows)
    rounds:int=0,              # of correcting, from the first size on
    k:int=40,                  # places a round; random ones also twice as many
):
    "Build, detect, judge"
    warnings.filterwarnings('ignore')
    if choices: detect.choose_c = partial(detect.choose_c, choices=[float(o) for o in choices.split()])
    data,keep,out = Path(data),Path(keep),Path(out)
    annotated = build(data, task, keep, seconds, each, dict(train=n_train, valid=n_valid, test=n_test))
    train,test = annotated[annotated.split=='train'],annotated[annotated.split==on]
    train_files,files = sorted(train.file.unique()),sorted(test.file.unique())
    def annotated_in(size, draw): return train[train.file.isin([train_files[(size*draw+i)%n_train] for i in range(size)])]
    rows,kept = Rows(out),keep/'bootstrap'
    kept.mkdir(exist_ok=True)
    own = keep/'encoders',train_files,clips
    for name,encoder in encoders(names.split(), *own).items():
        index = indexed(encoder, files, keep/'vectors'/f'{Path(name).name}-{on}-{hop:g}', hop)
        for size in map(int, sizes.split()):
            for draw in range(draws):
                key = dict(encoder=Path(name).name, judged=on, places=size*each, draw=draw, **({'choices':choices} if choices else {}))
                if rows.has(**key): continue
                row,bootstrap = judge(encoder.detector(annotated_in(size, draw)), index, test, collar)
                np.save(Path(f'{kept}/{key["encoder"]}-{on}-{size}-{draw}.npy'), bootstrap)
                reference = kept/f'untrained-{on}-{size}-{draw}.npy'
                if reference.exists() and name!='untrained':
                    low,high = np.quantile(bootstrap-np.load(reference), [.025,.975])
                    row |= dict(ahead_low=low, ahead_high=high)
                rows.add(**key, **row)
    if not rounds: return
    name,encoder = next(iter(encoders(names.split()[:1], *own).items()))
    size,log = int(sizes.split()[0]),Rows(out.with_name(out.stem+'_rounds.csv'))
    folder = keep/'vectors'/f'{Path(name).name}-'
    for draw in range(draws):
        start = annotated_in(size, draw)
        pool = train[~train.file.isin(start.file)]
        everything = indexed(encoder, train_files, Path(f'{folder}train-{hop:g}'), hop)
        indices = dict(test=indexed(encoder, files, Path(f'{folder}{on}-{hop:g}'), hop), pool=without(everything, start.file.unique()))
        for how,n in (('uncertain',k),('random',2*k),('diverse',k),('top',k),('random',k)):
            correct(encoder, start, pool, indices, test, collar, how, n, rounds, draw, log)
