"""The paper's own setting, for whoever has the data: pre-train on FSD50K and a tenth of AudioSet, then LAPE's eleven tasks by linear probes.

    python -m benchmarks.lape --pretrain 'FSD50K | audioset.txt' --tasks ROOT --keep lape --out lape.csv
    python -m benchmarks.lape --pretrain FSD50K --tasks ROOT --runs 'ours untrained' --clips 1000000 --published others.csv

`--pretrain`: folders of audio, or text files that list audio files, one a line, relative to the list; as much as is there is used, and what is missing is counted.
`--tasks`: the folder that holds the data sets in their public layouts (`slicer tasks` tells how to get them); tasks that are not there are named and left out.
`paper` trains with the choices of SLICER's released code (`lape_preset`), `ours` with the library's defaults, both on as many clips. Everything goes on where it was stopped:
packs, training, one file an encoder and task. `--published` is a table of your own with what others report (columns encoder, source, and tasks): a figure without a source is refused.
"""
import time, warnings
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from slicer_fastai.use.tasks import MissingData
from slicer_fastai.use.tasks import tasks as known_tasks

#: arguments of SlicerLearner, of the data loaders, and the fit: a constant rate, or a cycle to 1e-3
recipes = dict(paper=(lape_preset, dict(level=None, windows=1), Learner.fit),
               ours=({}, {}, partial(Learner.fit_one_cycle, lr_max=1e-3)))

def listed(source:Path)->list: # files that exist
    "The audio files of a folder or a list; how many of a list are missing is printed"
    if source.is_dir(): return list(get_audio_files(source))
    names = [o.strip() for o in source.read_text(encoding='utf-8').splitlines() if o.strip()]
    files = [source.parent/o for o in names]
    found = [f for f in files if f.is_file()]
    if len(found)<len(files): print(f'{source}: {len(files)-len(found):,} of {len(files):,} files are not there and are left out')
    return found

def collect(text:str)->list:
    "All files to pre-train on; CliError where a source is missing or empty"
    files = []
    for name in text.split('|'):
        source = Path(name.strip())
        if not source.exists(): raise CliError(f'--pretrain: {source} is not there')
        own = listed(source)
        if not own: raise CliError(f'--pretrain: {source} holds no audio files')
        files += own
    return list(dict.fromkeys(f.resolve() for f in files))

def known_pack(files, folder):
    "A pack of the files, made or gone on with"
    root = Path(os.path.commonpath([f.parent for f in files]))
    return pack_audio(root, folder, files=files)

class Forecast(Callback):
    "Says once, after so many seconds, how long the fit will take; steps that were done before a stop do not count"
    def __init__(self, after=60): self.after = after
    def before_fit(self): self.begun,self.said = None,False
    def before_batch(self):
        if not self.training or self.said: return
        at = self.epoch*self.n_iter+self.iter
        if self.begun is None: self.begun = at,time.time()
        first,start = self.begun
        if time.time()-start<self.after or at==first: return
        hours = (time.time()-start)/(at-first)*(self.n_epoch*self.n_iter-at)/3600
        print(f'step {at:,} of {self.n_epoch*self.n_iter:,}: {hours:.1f} hours to go', flush=True)
        self.said = True

def train(name, pack, folder, clips, bs, arch_kwargs, seed):
    "The encoder of a recipe, trained on so many clips to the nearest pass"
    done = folder/'encoder'
    if (done/'config.json').exists(): return AudioEncoder.from_pretrained(done)
    settings,loading,fit = recipes[name]
    own = {**settings.get('arch_kwargs', {}), **arch_kwargs}
    set_seed(seed)
    dls = SlicerDataLoaders.from_pack(pack, bs=bs, num_workers=0, labels=False, **loading)
    learn = SlicerLearner(dls, seed=seed, **{**settings, 'arch_kwargs':own})
    passes = max(1, round(clips/(len(dls.train)*dls.train.bs)))
    with learn.no_bar(): fit(learn, passes, cbs=[Resume(folder/'state'), Forecast()])
    learn.encoder.save_pretrained(done)
    return learn.encoder.eval()

def tasks_there(names, root):
    "Those tasks whose data are there; the others are named"
    res = []
    for name in names:
        try: known_tasks[name].splits(root/known_tasks[name].folder)
        except MissingData as e: print(f'{name} is left out: {str(e).splitlines()[0]}')
        else: res.append(name)
    if not res: raise CliError(f'--tasks {root} holds none of the data sets: `slicer tasks` tells how to get them')
    return res

def published_rows(fn):
    "What others report: a row an encoder, each with its source"
    table = pd.read_csv(fn)
    absent = {'encoder','source'}-set(table.columns)
    if absent: raise CliError(f'{fn} has no column {", ".join(sorted(absent))}')
    unsourced = table.source.isna() | (table.source.astype(str).str.strip()=='')
    if unsourced.any(): raise CliError(f'{fn}: no source is given for {", ".join(table.encoder[unsourced])}')
    return table.set_index('encoder')

def judged(name, encoder, tasks, root, folder, limit):
    "Accuracy of each task in %; a file each, so that a run that was stopped goes on"
    res = {}
    for task in tasks:
        fn = folder/f'{name}_{task}.json'
        if not fn.exists():
            own = encoder()
            benchmark({name:own}, [task], root, out=fn, limit=limit, progress=False)
        res[task] = float(Benchmark.load(fn).scores.loc[name,task])
        print(f'{name} {task}: {res[task]:.1f}', flush=True)
    return res

@call_parse
def main(
    pretrain:str=None,    # folders, or lists of files, with ` | ` between
    tasks:Path=None,      # folder of the data sets
    keep:Path=Path('lape'),    # packs, states, encoders, results
    out:Path=Path('lape.csv'), # the table
    runs:str='paper ours untrained', # of those, with spaces between; also names or folders of encoders
    only:str='',          # of the eleven tasks, with spaces between; default: all that are there
    clips:int=12_500_000, # that each training sees: 50 passes over 0.25 M clips
    bs:int=128,           # clips a step
    arch_kwargs:str='',   # of AudioNTT, e.g. 'd=512 width=32'; default: as published
    limit:int=None,       # clips of each part of a task: for a trial
    published:Path=None,  # a table of what others report: encoder, source, tasks
    seed:int=0,
):
    "Pre-train as the paper and as this library does, and judge both on LAPE"
    if pretrain is None or tasks is None: raise CliError('give --pretrain and --tasks')
    warnings.filterwarnings('ignore')
    others = None if published is None else published_rows(published)
    names = only.split() or [name for name,task in known_tasks.items() if task.lape]
    names = tasks_there(names, Path(tasks))
    files = collect(pretrain)
    print(f'{len(files):,} files to pre-train on; tasks: {", ".join(names)}', flush=True)
    kwargs = {k:int(v) for k,v in (o.split('=') for o in arch_kwargs.split())}
    results = Path(keep)/'results'
    results.mkdir(parents=True, exist_ok=True)
    def encoder(run):
        if run in recipes: return train(run, known_pack(files, Path(keep)/'pack'), Path(keep)/run, clips, bs, kwargs, seed)
        if run=='untrained': return AudioEncoder('audiontt', **kwargs).untrained(seed)
        return AudioEncoder.from_pretrained(run)
    rows = {}
    for run in runs.split():
        made = []
        def once(run=run, made=made):
            if not made: made.append(encoder(run))
            return made[0]
        rows[run] = judged(Path(run).name, once, names, Path(tasks), results, limit)
    table = pd.DataFrame(rows).T.rename_axis('encoder')
    table['average'] = table.mean(axis=1)
    table.insert(0, 'source', 'this run')
    if others is not None: table = pd.concat([table, others])
    write_whole(Path(out), table.round(2).to_csv())
    print(table.round(1).to_string())
