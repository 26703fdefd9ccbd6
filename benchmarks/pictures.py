"""Train briefly on recordings and draw every picture of `interpret` and `health` from them, for the pages and to be looked at.

    python -m benchmarks.pictures --data PATH --out nbs/images --keep /tmp/run

PATH holds pretrain.csv (column `files`) and tasks/TASK.csv (columns path, label, split), names relative to PATH. `--keep` holds the trained model and its
log: with it, pictures are drawn again without training. Pictures are PNGs of at most 96 colours, at notebook width; no sound is written.
"""
import io, json
from fastcore.script import call_parse, CliError
from fastai.basics import *
from fastai.callback.all import *
from slicer_fastai.all import *
from PIL import Image
from .ablate import tasks

def save(fig, fn, dpi=62, colours=96):
    "A figure as a small PNG"
    buf = io.BytesIO(); fig.savefig(buf, dpi=dpi, facecolor='w'); plt.close('all')
    Image.open(buf).convert('RGB').quantize(colours, dither=Image.Dither.NONE).save(fn, optimize=True)
    print(f'{fn}: {fn.stat().st_size/1000:.0f} KB', flush=True)

def trained(data, task, epochs, lr, share, d, keep):
    "A learner, trained, or put back as it was kept"
    df,(train,valid) = pd.read_csv(data/'pretrain.csv'),[[o[:400] for o in tasks(data)[task][s][:2]] for s in ('train','valid')]
    set_seed(0)
    dls = SlicerDataLoaders.from_df(df.sample(frac=share, random_state=0), data, bs=64, num_workers=0)
    learn = SlicerLearner(dls, arch_kwargs=dict(d=d), seed=0)
    log = keep and keep/'log.json'
    if keep and log.exists():
        learn.load((keep/'model').absolute(), with_opt=False)
        kept = json.loads(log.read_text()); learn.health_log = kept['health']
        learn.recorder.values,learn.recorder.metric_names = kept['values'],kept['names']
        return learn
    learn.add_cbs([Health(), KNNProbe(train, valid)])
    with learn.no_bar(): learn.fit_one_cycle(epochs, lr)
    if keep:
        keep.mkdir(exist_ok=True, parents=True); learn.save((keep/'model').absolute(), with_opt=False)
        log.write_text(json.dumps(dict(health=learn.health_log, values=[list(map(float, o)) for o in learn.recorder.values], names=list(learn.recorder.metric_names))))
    return learn

def pictures(learn):
    "Name and figure of each"
    fig = lambda *_: plt.gcf()
    set_seed(0)
    yield 'show_batch', fig(learn.dls.show_batch(max_n=8, hear=False))
    yield 'show_views', fig(learn.show_views(3))
    yield 'plot_kmix', fig(learn.plot_kmix())
    yield 'plot_losses', fig(learn.plot_losses())
    yield 'plot_health', fig(learn.plot_health())
    files = learn.dls.train_ds.items[:900]; emb = learn.embed(files, progress=False)
    for m in ('tsne','umap'):
        try: yield f'plot_map_{m}', fig(learn.plot_map(files, emb=emb, method=m))
        except ImportError as e: print(e)
    yield 'plot_clusters', fig(learn.plot_clusters(3, 4, max_clips=900, hear=False))
    yield 'neighbours', fig(learn.neighbours(files[7], files, k=5, emb=emb, hear=False))
    yield 'plot_listens', fig(learn.plot_listens(3))

@call_parse
def main(
    data:Path=None,               # folder with pretrain.csv and tasks/
    out:Path=Path('nbs/images'),  # where the pictures go
    keep:Path=None,               # where the trained model is kept, or found
    task:str='instrument',        # labelled clips for the kNN probe
    epochs:int=6,                 # passes over the clips
    lr:float=5e-4,                # largest learning rate of the cycle
    share:float=.35,              # of the clips to train on
    d:int=512,                    # size of the embeddings
):
    "Draw every picture from recordings"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv and tasks/')
    out = Path(out); out.mkdir(exist_ok=True, parents=True)
    learn = trained(Path(data), task, epochs, lr, share, d, keep and Path(keep))
    print(learn.diagnose(), flush=True)
    for name,fig in pictures(learn): save(fig, out/f'{name}.png')
