"""Does Health say what the curves say? Nine kinds of run on the synthesised sounds: curves in one picture, the sentence below each.

    python -m benchmarks.kinds_of_run [--out nbs/images/kinds_of_run.png]
"""
import textwrap, warnings
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from .pictures import save

kinds = {
    'a good start':               dict(n=4),
    'a longer one':               dict(n=24),
    'one epoch':                  dict(n=1),
    'learning rate 1e-6':         dict(n=6, lr=1e-6),
    'learning rate 0.1':          dict(n=8, lr=.1),
    'learning rate 1000':         dict(n=3, lr=1e3),
    'weight decay 30':            dict(n=6, lr=1e-2, wd=30., flat=True),
    'two views alike':            dict(n=8, lr=3e-3, tfms=''),
    'no labels':                  dict(n=6, labels=False),
}

def run(files, n, lr=2e-3, wd=None, labels=True, flat=False, **kwargs):
    "A small learner after `n` epochs"
    set_seed(0, reproducible=True)
    dls = SlicerDataLoaders.from_lists('/', files, files.map(parent_label) if labels else None, bs=16, num_workers=0, valid_pct=.25, seed=0, device='cpu')
    learn = SlicerLearner(dls, arch_kwargs=dict(d=64, width=8), n_clusters=16, hidden=64, cbs=[Health(), *([KNNProbe()] if labels else [])], **kwargs)
    with learn.no_bar(), learn.no_logging(): (learn.fit if flat else learn.fit_one_cycle)(n, lr, wd=wd)
    return learn

def draw(ax, learn, title):
    "Loss and chance, the probe against untrained, and what Health says"
    df = pd.DataFrame(learn.health_log).set_index('epoch')
    ax.plot(df.index, df.instance_loss, 'o-', ms=3, c='#0072b2', label='instance loss')
    ax.plot(df.index, df.chance, '--', c='#0072b2', label='chance')
    ax.set(title=title, xlabel='epoch', ylabel='nats', ylim=(0, 1.2*df.chance.max())); ax.xaxis.get_major_locator().set_params(integer=True)
    if 'knn' in df:
        b = ax.twinx(); b.plot(df.index, 100*df.knn, '^:', ms=3, c='#d55e00', label='knn'); b.axhline(100*df.knn_untrained.iloc[-1], c='#d55e00', lw=.8); b.set(ylim=(0, 100), ylabel='knn, %; line: untrained')
    ax.text(0, -.3, textwrap.fill(learn.diagnose(), 62), transform=ax.transAxes, va='top', fontsize=7.5)

@call_parse
def main(
    out:Path=Path('nbs/images/kinds_of_run.png'), # the picture
):
    "Draw kinds of run"
    warnings.filterwarnings('ignore'); torch.set_num_threads(1)
    files = get_audio_files(synth_sounds(n=12)).sorted()
    fig,axs = plt.subplots(3, 3, figsize=(12, 10.5)); fig.subplots_adjust(hspace=.85, wspace=.5, bottom=.12, top=.95, left=.06, right=.95)
    for ax,(name,kw) in zip(axs.flat, kinds.items()):
        learn = run(files, **kw); draw(ax, learn, name)
        print(f'{name:20s}', learn.diagnose(), flush=True)
    save(fig, Path(out), dpi=100)
