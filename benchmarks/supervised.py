"""The same encoder trained with labels only, or fine-tuned from a pre-trained one, on each task; one CSV row a run, resumable.

    python -m benchmarks.supervised --data PATH [--encoder FOLDER] --epochs 20 --lrs '1e-3 3e-3' --seeds 3

PATH as for benchmarks.ablate. A random window of each training clip every epoch, one cycle, no augmentation; whole clips are scored, as by the probes.
The first seed runs every learning rate; the one best on the task's validation clips is taken for the other seeds and for the table of test accuracies.
"""
import time
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from benchmarks.ablate import append_row, read_rows, tasks

@torch.no_grad()
def accuracy_of(clf, files, labels):
    "Accuracy in % on whole clips"
    model = clf.model.eval()
    x = torch.from_numpy(embed(model.encoder, files, progress=False)).to(next(model.parameters()).device)
    names = list(clf.dls.vocab)
    return 100*np.mean([names[i]==l for i,l in zip(model.head(x).argmax(1).tolist(), labels)])

def row(task, s, encoder, epochs, lr, seed):
    "Train on one task; accuracy on validation and test clips"
    set_seed(seed, reproducible=True)
    (ft,yt,_),(fv,yv,_) = s['train'],s['valid']
    enc = encoder and AudioEncoder.from_pretrained(encoder)
    front = dict(front=enc.front) if enc else {}
    dls = SlicerDataLoaders.from_lists('.', ft+fv, yt+yv, valid_idx=range(len(ft), len(ft)+len(fv)), num_workers=0, **front)
    clf,t = audio_learner(dls, enc or 'audiontt'),time.time()
    with clf.no_bar(), clf.no_logging(): clf.fine_tune(epochs, lr, lr_mult=10) if enc else clf.fit_one_cycle(epochs, lr)   # fastai's lr_mult=100 leaves the encoder nearly where it was
    acc = {n:round(accuracy_of(clf, *s[n][:2]), 2) for n in ('valid','test')}
    return dict(task=task, encoder=str(encoder or ''), epochs=epochs, lr=lr, seed=seed, **acc, seconds=round(time.time()-t))

@call_parse
def main(
    data:Path=None,                      # folder with tasks/
    encoder:Path=None,                   # folder of a saved encoder to fine-tune; default: from scratch
    epochs:int=20,                       # of one cycle
    lrs:str='1e-3 3e-3',                 # learning rates to choose from on validation clips
    seeds:int=3,                         # how many seeds
    out:Path=Path('supervised.csv'),     # one row a run; rows that are there are not run again
):
    "Supervised training on each task"
    if data is None: raise CliError('--data is missing: the folder with tasks/')
    ts,lrs,out = tasks(Path(data)),[float(o) for o in lrs.split()],Path(out)
    key = lambda t,lr,seed: dict(task=t, encoder=str(encoder or ''), epochs=epochs, lr=lr, seed=seed)
    found = lambda k: [r for r in read_rows(out) if all(r[a]==str(v) for a,v in k.items())]
    def run(t, lr, seed):
        k = key(t, lr, seed)
        if not found(k): append_row(out, row(t, ts[t], encoder, epochs, lr, seed)); print(found(k)[0], flush=True)
        return found(k)[0]
    best = {}
    for seed in range(seeds):
        for t in ts:
            if seed: run(t, best[t], seed)
            else: best[t] = max(lrs, key=lambda lr: float(run(t, lr, 0)['valid']))
    df = pd.DataFrame([run(t, best[t], s) for t in ts for s in range(seeds)]).astype(dict(test=float, valid=float))
    tab = df.pivot(index='seed', columns='task', values='test')
    print(tab.assign(average=tab.mean(1)).round(1).to_string(), '\nlearning rates:', best)
