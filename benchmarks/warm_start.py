"""Is it worth going on from an encoder that is there? Folders of one kind of sound, no labels: frozen, going on at several rates, from nothing.

    python -m benchmarks.warm_start --data PATH --out benchmarks/results/warm_start.csv
    python -m benchmarks.warm_start --data PATH --kinds 'drum digits' --sizes '200 1000' --rates '1e-3 1e-4' --seeds 3
    python -m benchmarks.warm_start --data PATH --kinds digits --more SPEECH --sizes 5000 --clips 15000 --rates 1e-4 --seeds 3
    python -m benchmarks.warm_start --table-of benchmarks/results/warm_start.csv

PATH holds tasks/*.csv (columns path, label, split = train/valid/test, group). A folder is made of the training clips of a task, without their labels: a kind of sound that is
wanted, as a user has it. Every run is judged by ridge probes on all tasks, on its own kind (`own`) and on the others (`others`: what was forgotten). A row a run; rows that are
there are not made again. Choose by the columns `valid`; `test` is for the last look.
"""
import itertools, time, warnings
from fastcore.script import call_parse, store_true, CliError
from fastai.basics import *
from slicer_fastai.all import *
from .ablate import append_row, read_rows, tasks

frozen = 'frozen'
nothing = 'nothing'

def folder_of(task, size:int, seed:int, more:Path=None)->list:
    "So many training clips of a task, and of the folder `more`, at random"
    files = [*task['train'][0], *(get_audio_files(more) if more else [])]
    chosen = np.random.default_rng(seed).permutation(len(files))[:size]
    return [files[i] for i in chosen]

def fewer(task, most:int)->dict:
    "A task with so many clips of each split at most, at random"
    if most is None: return task
    res = {}
    for split,columns in task.items():
        chosen = np.random.default_rng(0).permutation(len(columns[0]))[:most]
        res[split] = tuple([column[i] for i in chosen] for column in columns)
    return res

def train(files, run, start, clips:int, seed:int, bf16:bool):
    "The encoder of a run on these files: a rate at which training goes on from `start`, or a new network"
    set_seed(seed)
    sizes = size_defaults(len(files))
    dls = SlicerDataLoaders.from_lists('.', files, bs=sizes['bs'], num_workers=0, seed=seed, valid_pct=.02)
    rate = 1e-3 if run==nothing else float(run)
    new = AudioEncoder.from_pretrained(start)
    learn = SlicerLearner(dls, new.arch if run==nothing else start, arch_kwargs=new.kwargs if run==nothing else None, seed=seed)
    if bf16: learn.to_bf16()
    epochs = max(1, round(clips/(len(dls.train)*dls.bs)))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, rate)
    return learn.encoder

def judge(enc, all_tasks, kind)->dict:
    "Accuracy in % on validation and test clips of each task, and means: own kind, others"
    res = {}
    for name,task in all_tasks.items():
        at = {split:(embed(enc, files, progress=False),np.array(labels),np.array(groups)) for split,(files,labels,groups) in task.items()}
        res[f'valid|{name}'] = 100*float(linear_probe(None, at['train'], at['valid']))
        res[f'test|{name}'] = 100*float(linear_probe(None, at['train'], at['test'], valid=at['valid']))
    means = {}
    for split in ('valid','test'):
        means[f'{split} own'] = res[f'{split}|{kind}']
        means[f'{split} others'] = np.mean([v for k,v in res.items() if k.startswith(split) and k!=f'{split}|{kind}'])
    return {k:round(float(v), 2) for k,v in {**means, **res}.items()}

def table(out)->pd.DataFrame:
    "Means over kinds and seeds: a row a size and run"
    df = pd.DataFrame(read_rows(Path(out)))
    figures = [f'{split} {what}' for split in ('valid','test') for what in ('own','others')]
    df[figures] = df[figures].astype(float)
    df['size'] = df['size'].astype(int)
    res = df.groupby(['size','run'])[figures].mean().round(1)
    res['kinds'] = df.groupby(['size','run']).kind.agg(lambda o: ' '.join(sorted(set(o))))
    return res

@call_parse
def main(
    data:Path=None,                   # folder with tasks/
    kinds:str='drum sound_event digits', # tasks whose training clips make the folders
    sizes:str='200 600',              # clips of a folder; fewer where a task has fewer
    rates:str='1e-3 3e-4 1e-4',       # largest learning rates at which training goes on
    start:str='slicer-small',         # the encoder to go on from
    clips:int=10_000,                 # clips that each run sees
    seeds:int=1,                      # how many
    most:int=None,                    # clips of each split that are judged; default: all
    bf16:store_true=False,            # train in bfloat16
    more:Path=None,                   # a folder with further sounds of the (one) kind
    out:Path=Path('warm_start.csv'),  # a row a run
    table_of:Path=None,               # print the means of this file, and train nothing
):
    "Frozen, going on, from nothing"
    if table_of: return print(table(table_of).to_string())
    if data is None: raise CliError('--data is missing: a folder with tasks/')
    warnings.filterwarnings('ignore')
    all_tasks = tasks(Path(data))
    judged_tasks = {name:fewer(task, most) for name,task in all_tasks.items()}
    runs = [frozen, *rates.split(), nothing]
    judged = None
    for size,kind,seed,run in itertools.product(map(int, sizes.split()), kinds.split(), range(seeds), runs):
        key = dict(start=start, kind=kind, size=size, seed=seed, run=run, clips=0 if run==frozen else clips, most=ifnone(most, 'all'))
        if any(all(o[k]==str(v) for k,v in key.items()) for o in read_rows(out)): continue
        begun,cpu = time.time(),time.process_time()
        if run==frozen:
            enc = AudioEncoder.from_pretrained(start)
            judged = judged or judge(enc, judged_tasks, kind)
            figures = dict(judged)
            for split in ('valid','test'):
                figures[f'{split} own'] = judged[f'{split}|{kind}']
                rest = [v for k,v in judged.items() if k.startswith(f'{split}|') and k!=f'{split}|{kind}']
                figures[f'{split} others'] = round(float(np.mean(rest)), 2)
            trained = 0.
        else:
            enc = train(folder_of(all_tasks[kind], size, seed, more), run, start, clips, seed, bf16)
            trained = time.process_time()-cpu
            figures = judge(enc.eval(), judged_tasks, kind)
        append_row(out, {**key, **figures, 'processor seconds':round(trained), 'seconds':round(time.time()-begun)})
        print({**key, **{k:v for k,v in figures.items() if '|' not in k}}, flush=True)
