"""Fine-tuned against linear probe and training from scratch, at few and many labels a class; one CSV row a run, resumable.

    python -m benchmarks.finetune --data PATH [--encoder FOLDER] [--shots '5 20 all'] [--seeds 3] [--epochs 20] [--split test]

PATH as for benchmarks.ablate. Labelled clips are drawn from the training split; the same draw for all ways; whole clips are judged.
`--split fold0` (fold1, fold2) is for choosing: a third of the training clips' groups are judged, the rest is trained on.
`--opts "{'warp':.1}"` warps the frequencies of training clips (`FreqWarp`); other options are those of `audio_learner` and `fine_tune`.
"""
import ast, time
from fastcore.script import call_parse, CliError
from fastai.basics import *
from slicer_fastai.all import *
from benchmarks.ablate import append_row, read_rows, tasks
from sklearn.model_selection import GroupKFold

def fold(task, k):
    "The training clips, the groups of fold `k` of three set aside"
    f,y,g = map(np.array, task['train'])
    a,b = list(GroupKFold(3, shuffle=True, random_state=0).split(f, groups=g))[k]
    return {'train':tuple(o[a].tolist() for o in (f,y,g)), f'fold{k}':tuple(o[b].tolist() for o in (f,y,g))}

def run(task, enc, i, split, way, epochs, seed, opts):
    "Result of one way to the label, from the training clips `i`"
    (f,y,g),test = task['train'],task[split]
    train = [f[k] for k in i],np.array(y)[i],np.array(g)[i]
    if way=='probe': return linear_probe(enc, train, test, progress=False)
    fit = {a:opts[a] for a in ('base_lr','lr_mult','freeze_epochs','refit') if a in opts}
    opts = {} if way=='scratch' else {a:v for a,v in opts.items() if a not in fit}
    if 'warp' in opts: opts['augment'] = FreqWarp(opts.pop('warp'))
    return Supervised(enc, epochs, pretrained=way=='finetune', seed=seed, fit=fit if way=='finetune' else None, **opts).fit_test(train, test)

@call_parse
def main(
    data:Path=None,         # folder with tasks/
    encoder:str='slicer-small', # folder of a saved encoder, or a shipped one's name
    shots:str='5 20 all',   # labels a class
    seeds:int=3,            # draws
    epochs:int=20,          # of fine-tuning and of training from scratch
    split:str='test',       # judged on
    ways:str='probe scratch finetune', # to the label
    only:str='',            # some tasks only
    opts:str='{}',          # of audio_learner and fine_tune, and `warp`, as a Python dict
    out:Path=Path('finetune.csv'), # one row a run; rows that are there are not run again
):
    "Probe, scratch, fine-tuned"
    if data is None: raise CliError('--data is missing: the folder with tasks/')
    enc,opts,warn = AudioEncoder.from_pretrained(encoder),ast.literal_eval(opts),warnings.filterwarnings('ignore')
    ts = {k:o for k,o in tasks(Path(data)).items() if not only or k in only.split()}
    if split.startswith('fold'): ts = {k:fold(o, int(split[4:])) for k,o in ts.items()}
    for n,seed,t,way in itertools.product([int(o) if o.isdigit() else o for o in shots.split()], range(seeds), ts, ways.split()):
        if n=='all' and way=='probe' and seed: continue
        e = '' if way=='probe' else epochs
        key = dict(task=t, shots=n, seed=seed, way=way, split=split, epochs=e, encoder=Path(encoder).name, opts='' if way!='finetune' else str(opts))
        if any(all(r[a]==str(v) for a,v in key.items()) for r in read_rows(Path(out))): continue
        i,t0 = draw_shots(ts[t]['train'][1], n, seed).tolist(),time.process_time()
        r = run(ts[t], enc, i, split, way, epochs, seed, opts)
        low,high = [round(100*o, 2) for o in r.interval()]
        append_row(Path(out), dict(**key, accuracy=round(100*r, 2), balanced=round(100*r.balanced, 2), low=low, high=high,
            seconds=round(time.process_time()-t0, 1)))
        print(read_rows(Path(out))[-1], flush=True)
    df = pd.DataFrame(read_rows(Path(out))).astype(dict(accuracy=float))
    t = df[df.split==split].pivot_table(index=['shots','way','epochs','opts'], columns='task', values='accuracy')
    print(t.assign(average=t.mean(axis=1)).round(1).to_string())
