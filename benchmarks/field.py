"""How well are events found in recordings? Recordings built from labelled clips over real backgrounds, detectors on several encoders, and rounds of correcting.

    python -m benchmarks.field --data PATH                     # rows go into field.csv, recordings into field_recordings/
    python -m benchmarks.field --data PATH --rounds 5          # and what correcting is worth, proposed places against random ones, in field_rounds.csv

PATH holds pretrain.csv (column `files`: backgrounds) and tasks/TASK.csv (path, label, split, group: test clips are of groups that no training clip is of).
Events lie at random times, 0 to 20 dB above the background, some over each other. Average precision by events (any overlap) on test recordings, 0…1, with a 95 %
interval over recordings; `places`: annotated events of each class in the training recordings. Rows that are there are not made again.
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

def background(rng, files, seconds):
    "Pieces of long recordings one after the other, faded into each other, at a root mean square of 0.01"
    n,fade = int(seconds*sr),sr//2
    wave,at = np.zeros(n+sr, np.float32),0
    while at<n:
        x = read_window(rng.choice(files), 12., sr, pos=.5)
        if len(x)<3*sr or np.sqrt(np.mean(x**2))<1e-4: continue
        x = x*np.float32(.01/np.sqrt(np.mean(x**2)))
        x[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        x[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        part = wave[at:at+len(x)]
        part += x[:len(part)]
        at += len(x)-fade
    return wave[:n]

def recording(rng, clips, backgrounds, seconds, each):
    "A recording and its events: `each` clips of every class"
    wave,events = background(rng, backgrounds, seconds),[]
    for label,files in clips.items():
        for file in rng.choice(files, each):
            x = read_window(file, 4., sr, pos=0.)
            at = int(rng.integers(0, len(wave)-len(x)))
            wave[at:at+len(x)] += x*np.float32(.01/(np.sqrt(np.mean(x**2))+1e-6)*10**(rng.uniform(0, 20)/20))
            events.append((at/sr, (at+len(x))/sr, label))
    return wave,sorted(events)

def build(data, task, keep, seconds, each, n_train, n_test, seed=0):
    "Training and test recordings with their events"
    done = keep/'events.csv'
    if not done.exists():
        keep.mkdir(parents=True, exist_ok=True)
        table = pd.read_csv(data/'tasks'/f'{task}.csv')
        pool = [data/f for f in pd.read_csv(data/'pretrain.csv').files if 'music' in f or 'effects' in f]
        rows = []
        for split,n in dict(train=n_train, test=n_test).items():
            own = table[table.split==split]
            clips = {l:[data/'tasks'/f if (data/'tasks'/f).exists() else data/f for f in g.path] for l,g in own.groupby('label')}
            for i in range(n):
                rng = np.random.default_rng([seed, split=='test', i])
                wave,events = recording(rng, clips, pool[split=='test'::2], seconds, each)
                file = f'{split}_{i:02d}.flac'
                sf.write(keep/file, wave/max(1, abs(wave).max()), sr)
                rows += [(file,*o,split) for o in events]
        pd.DataFrame(rows, columns='file start end label split'.split()).to_csv(done, index=False)
    return read_annotations(done, verbose=False)

def encoders(names):
    "What is compared, by name"
    small = AudioEncoder.from_pretrained('slicer-small')
    mel = AudioEncoder(small.arch, front=small.front, layers='logmel', pool='mean+std', **small.kwargs)
    mel.norm.load_state_dict(small.norm.state_dict())
    known = {'slicer-small':small, 'untrained':small.untrained(0), 'logmel':mel}
    return {o:known[o] if o in known else AudioEncoder.from_pretrained(o) for o in names}

def judge(detector, scores, test, files):
    "Average precision of events, with its interval, and by seconds"
    table = evaluate_events(detector.detect(scores, threshold=.02), test, recordings=files).table
    return dict(ap=table.average_precision['mean'], lo=table.low['mean'], hi=table.high['mean'], by_seconds=table.by_seconds['mean'],
                **{f'ap|{l}':v for l,v in table.average_precision.items() if l!='mean'})

def truth(places, annotated):
    "What somebody who listens would say of places: the class of the event that fills most of it, or none"
    labels = []
    for o in places.itertuples():
        own = annotated[annotated.file==o.file]
        shared = overlap(o.start, o.end, own.start.to_numpy(), own.end.to_numpy())
        enough = len(own) and shared.max()>=.3*min(o.end-o.start, (own.end-own.start).to_numpy()[shared.argmax()])
        labels.append(own.label.iloc[int(shared.argmax())] if enough else '')
    return places.assign(label=labels, checked=True)

def correct(encoder, start, pool, test, files, how, k, rounds, write):
    "Rounds of proposing, listening and training again"
    detector = encoder.detector(start)
    pool_files = list(pool.file.unique())
    for i in range(rounds+1):
        write(how=how, round=i, places=i*k, **judge(detector, detector.scores(files, progress=False), test, files))
        if i==rounds: break
        proposed = detector.propose(detector.scores(pool_files, progress=False), k, how, seed=i)
        detector = detector.learn_from(truth(proposed, pool))

@call_parse
def main(
    data:Path=None,            # folder with pretrain.csv and tasks/
    task:str='sound_event',    # whose clips are the events
    names:str='slicer-small untrained logmel', # encoders: these, or folders of save_pretrained
    keep:Path=Path('field_recordings'), # recordings that are built
    out:Path=Path('field.csv'),# a row each
    seconds:float=300.,        # of a recording
    each:int=4,                # events of each class in a recording
    n_train:int=13,            # training recordings
    n_test:int=6,              # test recordings
    sizes:str='3 13',          # training recordings that are annotated
    rounds:int=0,              # of correcting, from the first size on
    k:int=40,                  # places a round; random ones are twice as many
):
    "Build, detect, judge"
    warnings.filterwarnings('ignore')
    annotated = build(Path(data), task, Path(keep), seconds, each, n_train, n_test)
    train,test = annotated[annotated.split=='train'],annotated[annotated.split=='test']
    train_files,files = list(train.file.unique()),list(test.file.unique())
    rows = pd.read_csv(out).to_dict('records') if Path(out).exists() else []
    for name,encoder in encoders(names.split()).items():
        for size in map(int, sizes.split()):
            if any((o['encoder'],o['recordings'])==(name,size) for o in rows): continue
            own = train[train.file.isin(train_files[:size])]
            detector = encoder.detector(own)
            rows.append(dict(encoder=name, recordings=size, places=size*each, **judge(detector, detector.scores(files, progress=False), test, files)))
            pd.DataFrame(rows).round(4).to_csv(out, index=False)
            print({k:v for k,v in rows[-1].items() if '|' not in k}, flush=True)
    if not rounds: return
    size,log = int(sizes.split()[0]),[]
    def write(**row):
        log.append(row)
        pd.DataFrame(log).round(4).to_csv(out.with_name(out.stem+'_rounds.csv'), index=False)
        print({k:v for k,v in row.items() if '|' not in k}, flush=True)
    start,pool = train[train.file.isin(train_files[:size])],train[train.file.isin(train_files[size:])]
    encoder = next(iter(encoders(names.split()).values()))
    for how,n in (('uncertain',k),('top',k),('random',2*k)): correct(encoder, start, pool, test, files, how, n, rounds, write)
