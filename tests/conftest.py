"What the tests share: a few sounds, tiny learners, and ways to look at them"
import matplotlib, pytest, torch, warnings
import numpy as np
matplotlib.use('agg')
from fastai.callback.all import *
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.core.files import *
from slicer_fastai.core.processes import *
from slicer_fastai.augment.mix import *
from slicer_fastai.models.encoder import *
from slicer_fastai.data.block import *
from slicer_fastai.data.read import *
from slicer_fastai.data.shards import *
from slicer_fastai.use.embed import *
from slicer_fastai.use.evaluate import *
from slicer_fastai.use.tasks import *
from slicer_fastai.train.callback import *
from slicer_fastai.train.learner import *
from slicer_fastai.train.probes import *
from slicer_fastai.train.resume import *
from slicer_fastai.train.health import *
from slicer_fastai.interpret.views import *
from slicer_fastai.audio.synth import synth_sounds
import hypothesis
for o in [o for o in globals() if o.startswith('test')]: del globals()[o]     # fastcore's helpers are no tests

hypothesis.settings.register_profile('tiny', max_examples=20, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile('tiny')
default_device(False)

def pytest_configure(config):
    for w in ('DeprecationWarning','FutureWarning'): config.addinivalue_line('filterwarnings', f'ignore::{w}')   # other libraries' affairs

encoder_kw = dict(d=32, width=8)

def entered(m):
    "Keys that entered the queue since it was filled before training"
    return int(m.queue_count)-len(m.queue)
model_kw = dict(dim=16, n_clusters=8, hidden=32)

@pytest.fixture(autouse=True)
def _seed(): set_seed(42)

@pytest.fixture(scope='session')
def sounds(tmp_path_factory):
    "108 clips of 1 to 4 s, 6 of each of 18 kinds"
    return synth_sounds(n=6, path=tmp_path_factory.mktemp('sounds')/'set')

@pytest.fixture(scope='session')
def files(sounds): return get_audio_files(sounds)

@pytest.fixture
def loaders(files, tmp_path):
    "A maker of DataLoaders on every third clip: 33 to train on, 3 to validate with"
    def make(fs=None, bs=8, num_workers=0, path=tmp_path, **kwargs):
        kwargs.setdefault('windows', 1)
        return SlicerDataLoaders.from_lists(path, files[::3] if fs is None else fs, bs=bs, num_workers=num_workers, device='cpu', **kwargs)
    return make

@pytest.fixture
def tiny(loaders):
    "A maker of tiny learners, the same each time: 4 batches an epoch"
    def make(dls=None, arch='audiontt', seed=0, **kwargs):
        dls = ifnone(dls, loaders())
        set_seed(seed)
        if arch=='audiontt': kwargs.setdefault('arch_kwargs', encoder_kw)
        return SlicerLearner(dls, arch, **{**model_kw, 'tfms':'mixup crop kmix', **kwargs})
    return make

@pytest.fixture
def folder(tmp_path):
    "A maker of folders of noisy wav files"
    import soundfile as sf
    def make(n=12, dur=1.2, sr=16000, ch=1, gain=.3):
        d,rng = tmp_path/'wavs',np.random.default_rng(0)
        d.mkdir(exist_ok=True)
        for i in range(n):
            x = rng.normal(size=(max(1, int(dur*sr)), ch)).cumsum(0)
            sf.write(d/f'{i:02d}.wav', gain*x/abs(x).max(), sr)
        return d
    return make

@pytest.fixture
def told(tmp_path):
    "A function: the warnings so far, as a user sees them, from all processes"
    log = tmp_path/'warnings.txt'; log.touch()
    def note(message, category, filename, lineno, file=None, line=None):
        with open(log, 'a') as f: f.write(str(message).replace('\n',' ')+'\n')
    with warnings.catch_warnings():
        warnings.simplefilter('default')
        warnings.showwarning = note
        yield lambda s: [l for l in log.read_text().splitlines() if s in l]

def state(m):
    "A copy of all parameters and buffers"
    return {k:v.detach().clone() for k,v in m.state_dict().items()}

def differ(a, b):
    "Names of the entries of two states that are not equal bit for bit"
    assert a.keys()==b.keys()
    return [k for k in a if a[k].shape!=b[k].shape or not torch.equal(a[k], b[k])]

def quiet(learn, f, *args, **kwargs):
    "Run a verb without bar and table"
    with learn.no_bar(), learn.no_logging(): return f(*args, **kwargs)

def losses(learn): return torch.stack(list(learn.recorder.losses))

class Spy(Callback):
    "Calls functions at events, by default just before SLICER does"
    def __init__(self, order=SLICER.order-.5, **fs): self.order,self.fs = order,fs
    def __call__(self, event_name):
        if event_name in self.fs and (self.learn.training or event_name=='before_fit'): self.fs[event_name](self.learn)

def unit(*shape, seed=0):
    "Random vectors of unit length"
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)

def grads(f, *xs):
    "Value and gradients of `f` at copies of `xs`, in float64"
    xs = [x.detach().clone().requires_grad_() for x in xs]
    y = f(*xs); y.backward()
    return y.detach().double(), [x.grad.double() for x in xs]

def close(a, b, tol=1e-5):
    "Equal up to `tol`, relative to the larger of 1 and the largest entry of `b`"
    a,b = [torch.as_tensor(np.asarray(o) if not isinstance(o,torch.Tensor) else o).detach().double() for o in (a,b)]
    assert a.shape==b.shape, f'shapes {tuple(a.shape)} and {tuple(b.shape)}'
    err = (a-b).abs().max().item()
    assert err<=tol*max(1., b.abs().max().item()), f'differ by up to {err:.3g}'
