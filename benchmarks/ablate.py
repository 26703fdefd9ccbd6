"""Train and probe SLICER under one changed setting at a time; one CSV row a run, resumable.

    python -m benchmarks.ablate --data PATH --passes 5 --seeds 3 --switch tfms='crop|mixup crop kmix' --switch lr='3e-4|3e-3'

PATH holds pretrain.csv (column `files`) and tasks/*.csv (columns path, label, split = train/valid/test), names relative to PATH.
The first run of each seed is the base; then every value of every switch, alone (`--grid`: all combinations). A switch is any argument of
`SlicerLearner`, of `SlicerDataLoaders`, or one of lr, passes, bs, wd, bf16; passes=0 is the untrained encoder, preset=lape the reference's choices.
Runs whose row is in the CSV already are skipped. Probes are ridge classifiers, their regularisation chosen by cross-validation over groups (speakers, kits,
fonts) of the training clips; `--split valid` (default) scores on the validation clips, without those of `--heard`: groups of which PATH/pretrain.csv has clips.
`--split test` is for the last look (regularisation: validation clips).
A table and a picture of mean and range over seeds come last.
"""
import itertools, json, time, warnings, zlib
from typing import Annotated
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *

def value(s):
    "'3e-4' → 0.0003, 'None' → None, 'True' → True, 'rms' → 'rms'"
    try: return eval(s, {})
    except Exception: return s

def plan(base, switches, grid=False):
    "Settings of every run: the base, then one change at a time, or all combinations"
    opts = {k:[value(o) for o in v.split('|')] for k,v in (s.split('=', 1) for s in switches)}
    if grid: return [{**base, **dict(zip(opts, vs))} for vs in itertools.product(*opts.values())]
    runs = [base]
    for k,vs in opts.items(): runs += [r for v in vs if (r := {**base, k:v})!=base]
    return runs

def tasks(data, heard=()):
    "Each labelled task as {split: (files, labels, groups)}; validation clips of the groups `heard` are left out"
    res = {}
    for f in sorted((data/'tasks').glob('*.csv')):
        df = pd.read_csv(f); df = df[~((df.split=='valid') & df.group.astype(str).isin(heard))]
        res[f.stem] = {s:([data/p for p in d.path], d.label.astype(str).tolist(), d.group.astype(str).tolist()) for s,d in df.groupby('split')}
    return res

def probe(features, ts, split='valid'):
    "Accuracy in % on each task, from a function files → embeddings (n, d)"
    res = {}
    for t,s in ts.items():
        at = {k:(features(f),np.array(y),np.array(g)) for k,(f,y,g) in s.items() if k in ('train','valid',split)}
        res[t] = 100*float(linear_probe(None, at['train'], at[split], valid=None if split=='valid' else at['valid']))
    return {**res, 'average':sum(res.values())/len(res)}

DL_ARGS = 'sr duration pad level n_mels bs num_workers windows'.split()

def train(data, cfg, seed):
    "One run: (learner, seconds)"
    set_seed(seed, reproducible=True)
    cfg = dict(cfg); lr,passes,wd,preset,bf16 = cfg.pop('lr'),cfg.pop('passes'),*(cfg.pop(k, None) for k in ('wd','preset','bf16'))
    if preset: cfg = {**lape_preset, 'level':None, 'windows':1, **cfg}
    dls = SlicerDataLoaders.from_df(pd.read_csv(data/'pretrain.csv'), data, **{k:cfg.pop(k) for k in DL_ARGS if k in cfg})
    learn = SlicerLearner(dls, seed=seed, **cfg)
    if bf16: learn.to_bf16()
    t = time.time()
    if passes:
        with learn.no_bar(), learn.no_logging(): learn.fit(passes, lr, wd=wd) if preset else learn.fit_one_cycle(passes, lr, wd=wd)
    return learn,time.time()-t

@torch.no_grad()
def health(learn, files):
    "Spread of the embeddings (1: as in all directions alike, 0: collapsed) and clusters that some clip belongs to"
    emb,h = learn.embed(files, progress=False),learn.embed(files, progress=False, head=True)
    z = emb/np.linalg.norm(emb, axis=1, keepdims=True)
    head = get_model(learn.model).student.cluster.eval()
    used = head(torch.from_numpy(h).to(next(head.parameters()))).argmax(1).unique()
    return dict(std=round(float(z.std(0).mean()*z.shape[1]**.5),4), clusters=len(used))

def run_name(cfg, seed):
    "Eight letters for all settings of a run: its encoder's folder below `--keep`, its column `run`"
    return f'{zlib.crc32(repr((sorted(cfg.items()), seed)).encode()):08x}'

def row(data, ts, cfg, seed, split, keep=None):
    "Train, probe, and say everything about it; the health is that of every fourth validation clip"
    learn,secs = train(data, cfg, seed)
    if keep: learn.encoder.save_pretrained(Path(keep)/run_name(cfg, seed))
    rec = dict(zip(learn.recorder.metric_names[1:-1], learn.recorder.values[-1])) if cfg['passes'] else {}
    files = [f for s in ts.values() for f in s['valid'][0][::4]]
    acc = probe(partial(embed, learn.encoder, progress=False), ts, split)
    return dict(**cfg, seed=seed, run=run_name(cfg, seed), clips=cfg['passes']*len(learn.dls.train)*learn.dls.train.bs, **{k:round(v,4) for k,v in rec.items()},
                **health(learn, files), **{k:round(v,2) for k,v in acc.items()},
                split=split, seconds=round(secs))

def read_rows(out): return pd.read_csv(out, keep_default_na=False, dtype=str).to_dict('records') if out.exists() else []

def append_row(out, r):
    "Add a row; new columns widen the file"
    rows = read_rows(out)+[{k:str(v) for k,v in r.items()}]
    pd.DataFrame(rows).fillna('').to_csv(out, index=False)

def done(rows, cfg, seed, split): return any((r.get('run'),r['split'])==(run_name(cfg, seed),split) for r in rows)

def table(rows, keys):
    "Mean, smallest and largest average over seeds for each setting"
    df = pd.DataFrame(rows); df['average'] = df.average.astype(float)
    g = df.groupby([k for k in keys if k in df], dropna=False).average
    return g.agg(['mean','min','max','count']).sort_values('mean', ascending=False).round(2)

def picture(rows, keys, out):
    "Mean and range over seeds of each setting's average, into a png beside the csv"
    t = table(rows, keys)[::-1]
    vary = [k for k in t.index.names if t.index.get_level_values(k).nunique()>1]
    names = [', '.join(f'{k}={v}' for k,v in zip(t.index.names, ifnone(i if isinstance(i, tuple) else (i,), ())) if k in vary and v!='') for i in t.index]
    fig,ax = plt.subplots(figsize=(7, .8+.3*len(t)), constrained_layout=True)
    ax.errorbar(t['mean'], range(len(t)), xerr=[t['mean']-t['min'], t['max']-t['mean']], fmt='o', ms=4, capsize=3)
    ax.set(yticks=range(len(t)), yticklabels=names, xlabel='average probe accuracy (%), mean and range over seeds'); ax.grid(axis='x', alpha=.3)
    fig.savefig(out.with_suffix('.png'), dpi=80)

@call_parse
def main(
    data:Path=None,                   # folder with pretrain.csv and tasks/
    more:Path=None,                   # folder with more tasks/
    passes:float=5,                   # passes over the pre-training clips
    seeds:int=1,                      # how many seeds
    first:int=0,                      # the first of them
    out:Path=Path('ablation.csv'),    # one row a run; rows that are there are not run again
    split:str='valid',                # probes report on this split: choose on 'valid', report once on 'test'
    heard:str='',                     # groups, with spaces between, whose validation clips are left out: the pool has their sources
    lr:float=1e-3,                    # largest learning rate of the cycle
    grid:bool=False,                  # all combinations of the switches instead of one at a time
    keep:Path=None,                   # save each run's encoder below this folder, by its name in column `run`
    base:str='{}',                    # json of settings that all runs share, e.g. '{"arch_kwargs":{"d":512}}'
    switch:Annotated[str, "a setting and its values, 'setting=value|value …'; may be given several times", dict(nargs='*', action='extend')]=[],
):
    "Train and probe SLICER under changed settings"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    data = Path(data); ts = {**tasks(data, heard.split()), **(tasks(Path(more)) if more else {})}; out = Path(out)
    cfg = {'passes':int(passes), 'lr':lr, **json.loads(base)}
    runs = plan(cfg, switch, grid)
    keys = list(dict.fromkeys(k for r in runs for k in r))
    for seed in range(first, first+seeds):
        for r in runs:
            if done(read_rows(out), r, seed, split): continue
            print({**r, 'seed':seed}, flush=True)
            res = row(data, ts, r, seed, split, keep)
            append_row(out, res)
            print({k:v for k,v in res.items() if k not in r}, flush=True)
    print(table(read_rows(out), keys).to_string())
    picture(read_rows(out), keys, out)
