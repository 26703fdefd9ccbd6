"""Fine-tuned against linear probe and training from scratch, at few and many labels a class; one CSV row a run, resumable.

    python -m benchmarks.finetune --data PATH --encoder FOLDER [--shots '5 20 all'] [--seeds 3] [--epochs 20] [--split test]

PATH as for benchmarks.ablate. Labelled clips are drawn from the training split; the same draw for all ways; whole clips are judged. `--split valid` is for choosing.
"""
import ast, time
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from benchmarks.ablate import append_row, read_rows, tasks

class NoValid(Callback):
    "Judged once, at the end"
    def before_validate(self): raise CancelValidException()

def probe_run(task, enc, i, split):
    (f,y,g),(ft,yt,_) = task['train'],task[split]
    return linear_probe(enc, ([f[k] for k in i],np.array(y)[i],np.array(g)[i]), (ft,yt), progress=False)

def learner_run(task, enc, i, split, epochs, seed, opts):
    "Fine-tune `enc`, or train its architecture from scratch"
    (f,y,_),(ft,yt,_),opts = task['train'],task[split],dict(opts)
    lr,mult,scratch = opts.pop('lr', None),opts.pop('lr_mult', None),opts.pop('scratch', False)
    dls = SlicerDataLoaders.from_lists('.', [f[k] for k in i]+ft, [y[k] for k in i]+yt, valid_idx=range(len(i), len(i)+len(ft)), front=enc.front,
                                       bs=min(opts.pop('bs', 16 if len(i)<200 else 32), len(i)), num_workers=0, skip=False)
    if scratch:
        new = enc.untrained(seed); new.norm.fit(sample_specs(dls, 512))
        opts = dict(probe=False, keep_bn=False, train_bn=True, **opts)
    learn = audio_learner(dls, new if scratch else enc, cbs=NoValid(), **opts)
    with learn.no_bar(), learn.no_logging():
        if scratch: learn.unfreeze(); learn.fit_one_cycle(epochs, lr or 3e-3)
        else: learn.fine_tune(epochs, **{k:v for k,v in (('base_lr',lr),('lr_mult',mult)) if v})
    learn.remove_cb(NoValid)
    with learn.no_bar(), learn.no_logging(): return learn.result()

@call_parse
def main(
    data:Path=None,         # folder with tasks/
    encoder:Path=None,      # folder of a saved encoder
    shots:str='5 20 all',   # labels a class
    seeds:int=3,            # draws
    epochs:int=20,          # of fine-tuning and of training from scratch
    split:str='test',       # judged on
    ways:str='probe scratch finetune', # to the label
    only:str='',            # some tasks only
    opts:str='{}',          # of audio_learner and fine_tune, as a Python dict
    out:Path=Path('finetune.csv'), # one row a run; rows that are there are not run again
):
    "Probe, scratch, fine-tuned"
    if data is None or encoder is None: raise CliError('give --data and --encoder')
    enc,opts,warn = AudioEncoder.from_pretrained(encoder),ast.literal_eval(opts),warnings.filterwarnings('ignore')
    ts = {k:o for k,o in tasks(Path(data)).items() if not only or k in only.split()}
    for n,seed,t,way in itertools.product([int(o) if o.isdigit() else o for o in shots.split()], range(seeds), ts, ways.split()):
        if n=='all' and way=='probe' and seed: continue
        e = '' if way=='probe' else epochs
        key = dict(task=t, shots=n, seed=seed, way=way, split=split, epochs=e, encoder=Path(encoder).name, opts='' if way!='finetune' else str(opts))
        if any(all(r[a]==str(v) for a,v in key.items()) for r in read_rows(Path(out))): continue
        i,t0 = draw_shots(ts[t]['train'][1], n, seed).tolist(),time.process_time()
        set_seed(seed, reproducible=True)
        r = probe_run(ts[t], enc, i, split) if way=='probe' else learner_run(ts[t], enc, i, split, epochs, seed, opts if way=='finetune' else dict(scratch=True))
        append_row(Path(out), dict(**key, accuracy=round(100*r, 2), balanced=round(100*r.balanced, 2), seconds=round(time.process_time()-t0, 1)))
        print(read_rows(Path(out))[-1], flush=True)
    df = pd.DataFrame(read_rows(Path(out))).astype(dict(accuracy=float))
    print(df[df.split==split].pivot_table(index=['shots','way','epochs','opts'], columns='task', values='accuracy', margins=True, margins_name='average').round(1).to_string())
