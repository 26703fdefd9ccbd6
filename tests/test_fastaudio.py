"fastaudio 1.0.2 on today's stack: what it documents, that the bridge leaves no trace, and that it feeds SLICER"
from conftest import *
from fastai.data.all import *
from fastai.vision.all import vision_learner, resnet18
import slicer_fastai
from slicer_fastai.audio.frontend import FrontEnd, front_end
from slicer_fastai.audio.synth import synth_sound
import ast, inspect, json, librosa, matplotlib, pickle, scipy.signal, soundfile as sf, subprocess, sys, tarfile
import matplotlib.pyplot as plt
for o in [o for o in globals() if o.startswith('test')]: del globals()[o]
from slicer_fastai.audio.clip import AudioTensor as SlicerTensor
from slicer_fastai.audio.spectrogram import AudioSpectrogram as SlicerSpectrogram

@pytest.fixture(scope='module')
def fa():
    "The bridge; an ImportError with pip's commands where fastaudio isn't installed: these tests fail then, they aren't skipped"
    import slicer_fastai.fastaudio as fa
    return fa

@pytest.fixture(scope='module')
def ta(fa):
    import torchaudio
    return torchaudio

@pytest.fixture(autouse=True)
def _close():
    matplotlib.use('Agg')
    yield
    plt.close('all')

@pytest.fixture
def bell(fa):
    "A bell of 3 s, in two channels that differ"
    x = torch.from_numpy(synth_sound('bell', 4)[0])
    return fa.AudioTensor(torch.stack([x, .5*x.flip(0)]), 16000)

@pytest.fixture
def mono(bell): return bell[:1]

slaney = dict(sample_rate=16000, n_fft=1024, hop_length=160, n_mels=64, f_min=60., f_max=7800., mel_scale='slaney', norm='slaney')

@pytest.fixture
def a2s(fa): return fa.AudioToSpec.from_cfg(fa.AudioConfig.BasicMelSpectrogram(**slaney))

@pytest.fixture
def spec(a2s, mono): return a2s(mono)

def plain(x): return x.as_subclass(torch.Tensor)

# --- no trace: each in a process of its own ---

def fresh(code, *args, timeout=600):
    "Run code in a new interpreter; what it prints"
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(Path(slicer_fastai.__file__).parent.parent), os.environ.get('PYTHONPATH', '')]), 'PYTHONWARNINGS': 'ignore'}
    res = subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, timeout=timeout, env=env)
    assert res.returncode==0, res.stderr[-3000:]
    return res.stdout

def forked(tmp_path, **jobs):
    "Run pieces of code, each in a fork of one new interpreter that has imported fastai only: {name: what it prints}"
    for name,job in jobs.items(): (tmp_path/f'{name}.json').write_text(json.dumps([job[0], *map(str, job[1:])]))
    fresh('''
import json, os, sys, traceback
from pathlib import Path
import timm, fastai.vision.all
for fn in map(Path, sys.argv[1:]):
    code,*args = json.loads(fn.read_text())
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1]==0, fn.stem+fn.with_suffix('.txt').read_text()
        continue
    out = os.open(fn.with_suffix('.txt'), os.O_WRONLY|os.O_CREAT)
    os.dup2(out, 1); os.dup2(out, 2)
    sys.argv[1:],status = args,1
    try:
        exec(code, dict(__name__='__main__'))
        status = 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(status)
''', *(tmp_path/f'{name}.json' for name in jobs))
    return {name:(tmp_path/f'{name}.txt').read_text() for name in jobs}

missing = '''
import sys, importlib.machinery as im
hidden = set()
class Hide(im.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None): return None if name.split('.')[0] in hidden else im.PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hide if o is im.PathFinder else o for o in sys.meta_path]
hidden = {'fastaudio','torchaudio','colorednoise'}
import slicer_fastai.all                                                # neither needs them nor loads the bridge
assert not [m for m in sys.modules if m.split('.')[0] in hidden or m=='slicer_fastai.fastaudio']
for gone in (['fastaudio','torchaudio','colorednoise'], ['torchaudio'], ['librosa']):
    hidden = set(gone)
    try: import slicer_fastai.fastaudio
    except ImportError as e:
        for o in (*gone, 'pip install torchaudio librosa colorednoise', 'pip install --no-deps fastaudio==1.0.2'): assert o in str(e), e
    else: assert 0, gone
hidden = set()
from slicer_fastai.fastaudio import AddNoise                            # installed meanwhile
'''

hygiene = '''
import sys, builtins
def state():
    import torch, librosa.display, fastcore.basics, fastai.imports, fastai.torch_core, fastai.data.core
    mods = (torch, torch.version, librosa, librosa.display, fastcore.basics, fastai.imports, fastai.torch_core, fastai.data.core, sys.modules.get('torchaudio'), builtins)
    res = {m.__name__: {k:id(v) for k,v in vars(m).items() if not k.startswith('__')} for m in mods if m}
    res['TensorBase'] = {k:id(v) for k,v in vars(fastai.torch_core.TensorBase).items()}
    return res, (torch.version.cuda, list(sys.meta_path), list(sys.path), list(sys.path_hooks), id(builtins.__import__))
def load_torchaudio():
    import torch
    v,torch.version.cuda = torch.version.cuda,None
    import torchaudio
    torch.version.cuda = v
first = sys.argv[1]
if first=='fastaudio':                                                  # which can't be imported by itself
    try: import fastaudio
    except Exception: pass
    else: assert 0
if first=='torchaudio': load_torchaudio()
if first!='nothing':
    import slicer_fastai.all
    before = state()
from slicer_fastai.fastaudio import *
from slicer_fastai import fastaudio as fa
if first!='nothing':
    after = state()
    for k,v in before[0].items():
        changed = {o for o in v if v[o]!=after[0][k].get(o)}
        new = {o for o in after[0][k] if o not in v and o not in sys.modules and f'{k}.{o}' not in sys.modules}
        assert not changed, (k, changed)
        assert not new or k in ('librosa','librosa.display'), (k, new)
    assert before[1]==after[1]
import torch, torchaudio, librosa.display
for m in ('fastcore.transform','fastcore.dispatch'):
    try: exec(f'from {m} import Transform')
    except ImportError as e: assert 'fasttransform' in str(e)
    else: assert 0, m
assert not hasattr(librosa.display, 'waveplot') and not hasattr(torchaudio, 'set_audio_backend')
assert first=='fastaudio' or not hasattr(torchaudio, 'USE_SOUNDFILE_LEGACY_INTERFACE')          # fastaudio itself sets it, as far as it gets
assert torchaudio.load.__module__==torchaudio.save.__module__=='torchaudio'
assert (torch.version.cuda is None)==(torch.backends.cuda.is_built() is False)
import fastaudio.all, fastaudio.core.config, importlib                  # an ordinary import from here on
assert fastaudio.all.AudioBlock is AudioBlock is fastaudio.core.config.AudioBlock and fastaudio.__version__=='1.0.2'
importlib.reload(fa); assert fa.AudioBlock is AudioBlock                # twice
del sys.modules['slicer_fastai.fastaudio']
import slicer_fastai.fastaudio; assert slicer_fastai.fastaudio.AudioBlock is AudioBlock
from fastai.vision.all import *
assert type(test_audio_tensor()).__name__=='AudioTensor'
'''

workers = '''
import sys, torch.multiprocessing as mp
mp.set_start_method(sys.argv[1], force=True)
from slicer_fastai.fastaudio import *
from slicer_fastai.audio.clip import NormalizeLevel
from fastai.data.all import *
a2s = AudioToSpec.from_cfg(AudioConfig.BasicMelSpectrogram(hop_length=160, n_mels=64))
items = [RemoveSilence(), ResizeSignal(950), AddNoise(), SignalShifter(), ChangeVolume(), SignalCutout(), SignalLoss(), NormalizeLevel(), a2s, MaskFreq(size=5), MaskTime(size=5), SGRoll()]
dls = DataBlock((AudioBlock, CategoryBlock), get_items=get_audio_files, get_y=parent_label, item_tfms=items, batch_tfms=[MaskFreqGPU(), DeltaGPU(), ToSlicer()]
               ).dataloaders(sys.argv[2], bs=8, num_workers=1, device='cpu')
x,y = next(iter(dls.train))
print(type(x).__module__, tuple(x.shape), x.sr, x.hop_length)
'''

def test_in_processes_of_their_own(sounds, tmp_path):
    """What is missing is named; the bridge leaves no trace, whatever was imported before it; a worker process gets items
    through the bridge, and a spawned one imports it by itself"""
    out = forked(tmp_path, missing=[missing], spawn=[workers, 'spawn', sounds], fork=[workers, 'fork', sounds],
                 **{f'after_{o}':[hygiene, o] for o in ('nothing','fastaudio','torchaudio')})
    for method in ('fork','spawn'): assert 'slicer_fastai.audio.spectrogram (8, 1, 64, 96) 16000 160\n' in out[method], out[method]

# --- names ---

def test_all_public_names(fa):
    import fastaudio.all
    own = [m for k,m in sys.modules.items() if k.split('.')[0]=='fastaudio']
    defined = {n.name for m in own for n in ast.parse(Path(m.__file__).read_text()).body if isinstance(n, (ast.FunctionDef,ast.ClassDef)) and n.name[0]!='_'}
    assert {k for k in vars(fastaudio.all) if k in defined}-{'show_batch'}<=set(fa.__all__)         # show_batch is fastai's, with methods for fastaudio's types
    assert all(getattr(fa, o) is getattr(fastaudio.all, o) for o in fa.__all__ if hasattr(fastaudio.all, o))
    assert set(fa.__all__)-set(vars(fastaudio.all))=={'to_slicer','to_fastaudio','ToSlicer','FastaudioTfm','FastaudioFrontEnd'}

def test_ci_and_util(fa):
    from fastaudio.ci import skip_if_ci
    from fastaudio.util import apply_transform, create_sin_wave
    inp,out = apply_transform(fa.Resample(8000), fa.test_audio_tensor(seconds=1, sr=16000))
    assert (inp.sr, out.sr, out.nsamples)==(16000, 8000, 8000)

# --- AudioTensor: files ---

@pytest.mark.parametrize('ending', ['wav','flac','ogg','mp3'])
def test_create(fa, mono, tmp_path, ending):
    fn = tmp_path/f'a.{ending}'
    sf.write(fn, mono[0].numpy(), 16000)
    x = fa.AudioTensor.create(fn)
    y,sr = sf.read(fn, dtype='float32', always_2d=True)
    assert type(x) is fa.AudioTensor and type(x.data) in (torch.Tensor, fa.AudioTensor) and x.dtype==torch.float32
    assert (x.sr, x.nchannels, x.nsamples, x.duration)==(16000, 1, len(y), len(y)/16000)
    assert np.array_equal(plain(x).numpy(), y.T)
    close(plain(fa.AudioTensor.create(str(fn), frame_offset=100, num_frames=50)), y.T[:,100:150], 1e-6)

def test_create_says_what_is_wrong(fa, tmp_path):
    (tmp_path/'a.wav').write_text('no sound')
    for fn in ('a.wav','none.wav'):
        with pytest.raises(AudioReadError, match=fn): fa.AudioTensor.create(tmp_path/fn)

@pytest.mark.parametrize('ending', ['wav','flac'])
def test_save(fa, bell, tmp_path, ending):
    fn = tmp_path/f'a.{ending}'
    bell.save(fn)
    close(plain(fa.AudioTensor.create(fn)), plain(bell), 2**-22)
    with pytest.raises(Exception, match='already exists'): bell.save(fn, overwrite=False)

def test_meta_survives(fa, bell, spec):
    for o in (bell+1, bell[:1], bell.clone(), bell.to(torch.float64), torch.stack([bell,bell]), pickle.loads(pickle.dumps(bell)), deepcopy(bell)): assert o.sr==16000
    for o in (spec+1, spec[:,:5], spec.clone(), torch.where(plain(spec)>0, spec, spec*0), torch.stack([spec,spec]), pickle.loads(pickle.dumps(spec)), deepcopy(spec)):
        assert o.settings==spec.settings
    assert (fa.AudioTensor(torch.ones(10), sr=120)+fa.AudioTensor(torch.ones(10), sr=150)).sr==120

def test_files(fa, sounds, files):
    fs = fa.get_audio_files(sounds)
    assert set(fs)==set(files) and set(fa.AudioGetter('bell')(sounds))=={f for f in fs if f.parent.name=='bell'}
    assert {'.wav','.mp3','.flac'}<=set(fa.audio_extensions)
    assert len(fa.get_audio_files(sounds, folders=['drum','bell']))==12
    oa = fa.OpenAudio(fs)
    assert torch.equal(plain(oa(3)), plain(fa.AudioTensor.create(fs[3]))) and oa.decode(3)==fs[3]

def test_tar(fa, mono, tmp_path):
    mono.save(tmp_path/'a.wav')
    with tarfile.open(tmp_path/'set.tgz', 'w:gz') as f: f.add(tmp_path/'a.wav', 'a.wav')
    fa.tar_extract_at_filename(tmp_path/'set.tgz', tmp_path/'out')
    assert len(fa.get_audio_files(tmp_path/'out'))==1 and URLs.ESC50.startswith('https://')

def test_preprocess_and_cache(fa, folder):
    path = folder(n=3, sr=22050, ch=2)
    out = fa.preprocess_audio_folder(path, sample_rate=8000, crop_signal_to=500)
    x = fa.AudioTensor.create(out/'00.wav')
    assert out.name=='wavs_cached' and (x.sr, x.shape)==(8000, (1,4000))
    close(plain(fa.PreprocessAudio(sample_rate=8000)(path/'01.wav')), plain(fa.Resample(8000)(fa.AudioTensor.create(path/'01.wav'))).mean(0, keepdim=True), 1e-6)
    blk = fa.AudioBlock.from_folder(path, sample_rate=8000, crop_signal_to=500)
    dls = DataBlock(blk, get_items=fa.get_audio_files).dataloaders(path, bs=2, num_workers=0, device='cpu')
    assert dls.one_batch()[0].shape==(2,1,4000) and dls.one_batch()[0].sr==8000

# --- signal transforms ---

@pytest.mark.parametrize('sr', [2000,8000,16000,22050,44100,11111])
def test_resample(fa, bell, sr):
    y = fa.Resample(sr)(bell.clone())
    g = math.gcd(16000, sr)
    assert y.sr==sr and y.nchannels==2 and abs(y.duration-bell.duration)<=1/sr
    close(plain(y), scipy.signal.resample_poly(bell.numpy(), sr//g, 16000//g, axis=-1), 1e-5)

def test_downmix(fa, bell):
    close(plain(fa.DownmixMono()(bell)), plain(bell).mean(0, keepdim=True), 1e-7)
    b = fa.DownmixMono()(torch.stack([bell,bell]))
    assert b.shape==(2,1,bell.nsamples) and b.sr==16000

def test_resize_signal(fa, bell):
    n = bell.nsamples
    for ms in (100,500,1000): assert fa.ResizeSignal(ms)(bell.clone()).shape==(2, ms*16)
    crop = plain(fa.ResizeSignal(500)(bell.clone()))
    assert any(torch.equal(plain(bell)[:,i:i+8000], crop) for i in (plain(bell)[0]==crop[0,0]).nonzero().flatten().tolist() if i+8000<=n)
    ms = n//16+1000
    after = plain(fa.ResizeSignal(ms, pad_mode=fa.AudioPadType.Zeros_After)(bell.clone()))
    assert torch.equal(after[:,:n], plain(bell)) and (after[:,n:]==0).all() and after.shape[1]==ms*16
    both = plain(fa.ResizeSignal(ms)(bell.clone()))
    i = (both[0]!=0).nonzero()[0].item()-(plain(bell)[0]!=0).nonzero()[0].item()
    assert torch.equal(both[:,i:i+n], plain(bell)) and both[:,:i].abs().sum()==both[:,i+n:].abs().sum()==0
    rep = plain(fa.ResizeSignal(3*n//16, pad_mode=fa.AudioPadType.Repeat)(bell.clone()))
    assert torch.equal(rep[:,:n], plain(bell)) and torch.equal(rep[:,n:2*n], plain(bell))
    with pytest.raises(ValueError, match='pad_mode'): fa.ResizeSignal(1000, pad_mode='zeros')

def test_remove_silence(fa, mono):
    x = plain(mono)[:,:8000].abs()+.1
    gap = torch.zeros(1,16000)
    make = lambda: fa.AudioTensor(torch.cat([gap,x,gap,x,gap], 1), 16000)
    T = fa.RemoveType
    got = {t: fa.RemoveSilence(t)(make()).nsamples for t in (T.Trim,T.All,T.Split)}
    assert 32000<got[T.Trim]<35000 and 16000<got[T.All]<23000 and got[T.Split]==got[T.All]  # librosa's frames blur the edges
    assert fa.RemoveSilence(None)(make()).nsamples==64000
    for t in (T.Trim,T.All,T.Split): assert fa.RemoveSilence(t)(fa.AudioTensor(torch.ones(1,16000), 16000)).nsamples==16000
    with pytest.raises(ValueError, match='silence'): fa.RemoveSilence('some')(make())

def train(tfm, x): return tfm(x.clone(), split_idx=0)

def test_training_only(fa, bell):
    for t in (fa.AddNoise(p=1.), fa.SignalShifter(p=1.), fa.ChangeVolume(p=1.), fa.SignalCutout(p=1.), fa.SignalLoss(p=1.)):
        assert torch.equal(plain(t(bell.clone(), split_idx=1)), plain(bell)) and not torch.equal(plain(train(t, bell)), plain(bell)), t
        assert train(t, bell).sr==16000

@pytest.mark.parametrize('color', [-2,-1,0,1,2])
def test_noise(fa, mono, color):
    "Noise of the colour and level asked for: power falls by 3·colour dB an octave"
    add = fa.AddNoise(noise_level=1., color=color, p=1.)
    y = plain(train(add, mono))
    set_seed(42); assert torch.equal(plain(train(add, mono)), y)         # colorednoise's own generator would not know the seed
    n = y-plain(mono)
    assert abs(n.std()/plain(mono).abs().mean()-1)<(.1 if color<1 else .25 if color<2 else .7)   # pink noise wanders, brown more
    f,p = scipy.signal.welch(n[0].numpy(), 16000, nperseg=1024)
    slope = np.polyfit(np.log2(f[8:400]), 10*np.log10(p[8:400]), 1)[0]
    assert abs(slope+3*color)<.5
    b = torch.stack([mono,mono*3])
    y = fa.AddNoiseGPU(min_level=.5, max_level=.5, color=color)(b.clone())
    r = (plain(y)-plain(b)).std(-1).flatten()/plain(b).std(-1).flatten()
    assert type(y) is fa.AudioTensor and y.sr==16000 and ((r-.5).abs()<(.05 if color<2 else .35)).all()

def test_noise_color_is_checked(fa):
    for T in (fa.AddNoise, fa.AddNoiseGPU):
        for c in (-3,5):
            with pytest.raises(ValueError, match='color'): T(color=c)

@pytest.mark.parametrize('roll', [False,True])
@pytest.mark.parametrize('direction', [-1,0,1])
def test_shift(fa, bell, spec, direction, roll):
    for x in (bell, spec):
        t = fa.SignalShifter(p=1., direction=direction, roll=roll)
        y = plain(train(t, x))
        s = int(t.shift_factor*.2*x.shape[-1])
        assert direction==0 or s*direction>=0
        want = plain(x).roll(s, -1)
        if not roll: want[..., :s] if s>0 else want[..., s:]; (want[..., :s] if s>0 else want[..., s:] if s<0 else want[...,:0]).zero_()
        assert torch.equal(y, want)
    t = fa.SignalShifter(p=1., max_time=.1, roll=True)
    y = plain(train(t, bell))
    assert torch.equal(y, plain(bell).roll(int(t.shift_factor*1600), -1))
    with pytest.raises(ValueError, match='Direction'): fa.SignalShifter(direction=2)

def test_volume(fa, bell):
    t = fa.ChangeVolume(p=1., lower=.5, upper=1.5)
    y = plain(train(t, bell))
    close(y, plain(bell)*t.gain, 1e-6); assert .5<=t.gain<=1.5
    b = torch.stack([bell]*8)
    r = plain(fa.ChangeVolumeGPU(p=1., lower=.5, upper=1.5)(b.clone())).abs().amax((1,2))/plain(b).abs().amax((1,2))
    assert ((r>=.5)&(r<=1.5)).all() and r.unique().numel()>1

def test_cutout_and_loss(fa):
    x = fa.AudioTensor(torch.rand(2,16000)+.1, 16000)
    runs = lambda z: (z.int().diff().abs().sum(-1)+z[...,0].int()+1)//2
    for T,one in ((fa.SignalCutout,True), (fa.SignalLoss,False)):
        gone = plain(train(T(1., .15), x))==0
        assert torch.equal(gone[0], gone[1]) and gone.float().mean()<=.16
        assert runs(gone[0])==1 if one else runs(gone[0])>1
    b = torch.stack([x]*6)
    gone = plain(fa.SignalCutoutGPU(p=1., min_cut_pct=.1, max_cut_pct=.15)(b.clone()))==0
    share = gone.float().mean((1,2))
    assert ((share>=.0999)&(share<=.1501)).all() and (runs(gone)<=1).all() and share.unique().numel()>1
    share = (plain(fa.SignalLossGPU(p=1., min_cut_pct=.1, max_cut_pct=.15)(b.clone()))==0).float().mean((1,2))
    assert ((share>.08)&(share<.17)).all()

# --- spectrograms ---

def cfgs(fa):
    C = fa.AudioConfig
    return [C.BasicSpectrogram(), C.BasicSpectrogram(n_fft=512, hop_length=128, power=1.), C.BasicMelSpectrogram(), C.BasicMelSpectrogram(**slaney), C.Voice(),
            dict(mel=False, to_db=False, hop_length=128, n_fft=400), dict(mel=True, to_db=True, n_mels=40, top_db=80., f_max=6000.), dict(mel=True, to_db=False, win_length=512)]

@pytest.mark.parametrize('i', range(8))
def test_spectrograms_are_torchaudios(fa, ta, bell, i):
    c = cfgs(fa)[i]
    c = dict(c) if isinstance(c, dict) else {**{k:v for k,v in vars(type(c)).items() if not k.startswith('_')}, **vars(c)}
    sg = fa.AudioToSpec.from_cfg(cfgs(fa)[i])(bell)
    n_fft = c.get('n_fft') or 1024
    kw = dict(c, n_fft=n_fft, win_length=c.get('win_length') or n_fft)
    kw['hop_length'] = kw.get('hop_length') or kw['win_length']//2
    T = ta.transforms
    make = T.MelSpectrogram if c['mel'] else T.Spectrogram
    pipe = [make(**{k:v for k,v in kw.items() if k in inspect.signature(make).parameters})]
    if c['to_db']: pipe.append(T.AmplitudeToDB(**{k:v for k,v in kw.items() if k in ('stype','top_db')}))
    want = nn.Sequential(*pipe)(plain(bell))
    assert type(sg) is fa.AudioSpectrogram and torch.equal(plain(sg), want)
    assert (sg.sr, sg.nchannels, sg.height, sg.width, sg.hop_length, sg.n_fft)==(16000, 2, want.shape[1], want.shape[2], kw['hop_length'], n_fft)
    assert abs(sg.duration-bell.duration)<=.6*sg.hop_length/sg.sr
    sg.show(title='both channels')
    assert len(plt.gcf().axes)==2 and len(plt.gcf().axes[0].child_axes)==2

def test_mfcc_is_torchaudios(fa, ta, bell):
    m = fa.AudioToMFCC.from_cfg(fa.AudioConfig.BasicMFCC(n_mfcc=20, melkwargs=dict(n_fft=512, hop_length=256, n_mels=40)))
    sg = m(bell)
    assert torch.equal(plain(sg), ta.transforms.MFCC(16000, n_mfcc=20, melkwargs=dict(n_fft=512, hop_length=256, n_mels=40))(plain(bell)))
    assert sg.n_mfcc==20 and sg.sr==16000

def test_right_side_up(fa, a2s):
    t = torch.arange(16000)/16000
    peak = lambda hz: plain(a2s(fa.AudioTensor(torch.sin(2*math.pi*hz*t)[None], 16000))).mean(-1).argmax().item()
    assert peak(100)<3<peak(1000)<peak(4000)<64

def test_factories_and_warnings(fa, bell):
    f = fa.SpectrogramTransformer(mel=True, to_db=True)
    assert {'n_mels','hop_length','top_db'}<=set(inspect.signature(f).parameters)
    sg = f(f_max=8000, n_mels=137)(bell)
    assert (sg.f_max, sg.n_mels, sg.hop_length, sg.mel, sg.to_db)==(8000, 137, 512, True, True)
    with pytest.warns(UserWarning, match='wrong is not a valid arg'): f(wrong=1)
    C = fa.config_from_func(fa.ResizeSignal.__init__, 'C', extra=3)
    assert C().extra==3 and C(duration=5).duration==5
    for T in (fa.MaskFreq(), fa.SGRoll(), fa.CropTime(100)):
        with pytest.warns(UserWarning, match='to an AudioTensor'): T(bell.clone())

def test_crop_time(fa, a2s, spec):
    for ms in (300,1000):
        y = fa.CropTime(ms)(spec.clone())
        assert y.width==ms//10+1 and y.settings==spec.settings
        assert any(torch.equal(plain(spec)[...,i:i+y.width], plain(y)) for i in range(spec.width-y.width+1))
    n = spec.width
    after = plain(fa.CropTime((n+50)*10, pad_mode=fa.AudioPadType.Zeros_After)(spec.clone()))
    assert torch.equal(after[...,:n], plain(spec)) and (after[...,n:]==0).all()
    rep = plain(fa.CropTime(n*20, pad_mode=fa.AudioPadType.Repeat)(spec.clone()))
    assert torch.equal(rep[...,n:2*n], plain(spec))
    with pytest.raises(ValueError, match='pad_mode'): fa.CropTime(90000, pad_mode='zerosafter')(spec.clone())

def test_masks(fa, spec):
    y = plain(fa.MaskFreq(size=9, start=20, val=-7.)(spec.clone()))
    assert (y[:,20:29]==-7).all() and torch.equal(y[:,:20], plain(spec)[:,:20]) and torch.equal(y[:,29:], plain(spec)[:,29:])
    y = plain(fa.MaskTime(size=9, start=20, val=-7.)(spec.clone()))
    assert (y[...,20:29]==-7).all() and torch.equal(y[...,:20], plain(spec)[...,:20]) and torch.equal(y[...,29:], plain(spec)[...,29:])
    close(plain(fa.MaskFreq(size=4, start=0)(spec.clone()))[0,:4], plain(spec).mean().expand(4, spec.width), 1e-4)
    with pytest.raises(ValueError, match='out of range'): fa.MaskFreq(size=9, start=60)(spec.clone())

@pytest.mark.parametrize('num', [1,3])
def test_masks_of_batches(fa, spec, num):
    b = torch.stack([spec]*16)
    for T,dim in ((fa.MaskFreqGPU,2), (fa.MaskTimeGPU,3)):
        y = T(num_masks=num, min_size=3, max_size=9)(b.clone())
        hit = (plain(y)!=plain(b)).any(5-dim)[:,0]
        assert y.settings==spec.settings and (2<=hit.sum(1)).all() and (hit.sum(1)<=10*num).all() and hit.unique(dim=0).shape[0]>1
        y = plain(T(num_masks=num, min_size=3, max_size=9, mask_val=-7.)(b.clone()))
        assert (y==-7).any()
        assert T()(spec.clone()).shape==spec.shape                          # one item

def test_roll(fa, spec):
    y = plain(fa.SGRoll()(spec.clone()))
    assert any(torch.equal(y, plain(spec).roll(i, -1)) for i in range(spec.width))
    with pytest.raises(ValueError, match='Direction'): fa.SGRoll(direction=3)

def test_deltas(fa, ta, spec):
    y = plain(fa.Delta(width=9)(spec.clone()))
    assert y.shape==(3,64,spec.width)
    close(y[1], librosa.feature.delta(plain(spec)[0].numpy(), width=9, order=1), 1e-4)
    close(y[2], librosa.feature.delta(plain(spec)[0].numpy(), width=9, order=2), 1e-4)
    for x in (spec, torch.stack([spec,spec+1])):
        y = fa.DeltaGPU(width=9)(x.clone())
        d = ta.functional.compute_deltas(plain(x), 9)
        assert y.settings==spec.settings and torch.equal(plain(y), torch.cat([plain(x), d, ta.functional.compute_deltas(d, 9)], -3))

def test_resize(fa, spec):
    want = nn.functional.interpolate(plain(spec)[None], (32,48), mode='bilinear', align_corners=False)
    assert torch.equal(plain(fa.TfmResize((32,48))(spec.clone())), want[0])
    assert torch.equal(plain(fa.TfmResizeGPU((32,48))(spec[None].clone())), want)
    assert fa.TfmResize(20)(spec.clone()).shape==(1,20,20)==fa.TfmResizeGPU(20)(spec.clone()).shape

# --- data ---

def block(fa, sounds, item_tfms=None, batch_tfms=None, audio=None, labels=True, bs=8):
    blocks = (audio or fa.AudioBlock(crop_signal_to=950), CategoryBlock) if labels else audio or fa.AudioBlock(crop_signal_to=950)
    db = DataBlock(blocks, get_items=fa.get_audio_files, splitter=RandomSplitter(.1, seed=1), item_tfms=item_tfms, batch_tfms=batch_tfms,
                   **(dict(get_y=parent_label) if labels else {}))
    return db.dataloaders(sounds, bs=bs, num_workers=0, device='cpu')

def inside(ax): return [o for a in ax.child_axes for o in (*a.collections, *a.images, *a.lines)]

def test_show_batch(fa, a2s, sounds):
    dls = block(fa, sounds)
    dls.show_batch(nrows=2, ncols=2)
    axs = [a for a in plt.gcf().axes if a.child_axes]
    assert len(axs)==4 and all(inside(a) for a in axs) and all(a.get_title() in dls.vocab for a in axs)
    plt.close('all')
    dls = block(fa, sounds, batch_tfms=[a2s, fa.MaskFreqGPU(), fa.DeltaGPU()])
    dls.show_batch(nrows=1, ncols=3)
    axs = [a for a in plt.gcf().axes if a.child_axes]
    assert len(axs)==3 and all(inside(a) for a in axs) and all(a.get_title() in dls.vocab for a in axs)
    dls.train_ds[0][0].show(hear=False); a2s(dls.train_ds[0][0]).show()

def test_hear(fa, mono, capsys):
    mono.hear(); mono.show()
    assert 'Audio' in capsys.readouterr().out

def test_trains(fa, a2s, sounds, tmp_path):
    dls = block(fa, sounds, [fa.AddNoise(), fa.SignalShifter()], [fa.ChangeVolumeGPU(), a2s, fa.MaskFreqGPU(), fa.MaskTimeGPU(), fa.DeltaGPU()], bs=16)
    learn = vision_learner(dls, resnet18, n_in=3, pretrained=False, metrics=accuracy, path=tmp_path)
    quiet(learn, learn.fit_one_cycle, 1)
    assert len(learn.recorder.losses)==6 and losses(learn).isfinite().all()
    preds,y = quiet(learn, learn.get_preds)
    assert preds.shape==(10,18)
    learn.export(tmp_path/'a.pkl')
    f = fa.get_audio_files(sounds)[0]
    (tmp_path/'x.pkl').write_bytes(pickle.dumps(fa.AudioTensor.create(f)))
    out = fresh('''
import sys, pickle
from pathlib import Path
x = pickle.loads(Path(sys.argv[3]).read_bytes())
assert (type(x).__name__, x.sr)==('AudioTensor', 16000) and 'fastaudio' in sys.modules
from fastai.learner import load_learner
learn = load_learner(sys.argv[1])                                       # imports the bridge by itself
with learn.no_bar(): print(*learn.predict(Path(sys.argv[2]))[2].tolist())
''', tmp_path/'a.pkl', f, tmp_path/'x.pkl')
    assert len(out.split())==18

# --- to ours and back ---

def test_conversion_shares_memory(fa, a2s, bell, spec):
    y = fa.to_slicer(bell)
    assert type(y) is SlicerTensor and y.sr==16000 and y.data_ptr()==bell.data_ptr() and torch.equal(plain(y), plain(bell))
    assert type(fa.to_fastaudio(y)) is fa.AudioTensor and fa.to_fastaudio(y).sr==16000 and fa.to_fastaudio(y).data_ptr()==bell.data_ptr()
    s = fa.to_slicer(spec)
    assert type(s) is SlicerSpectrogram and (s.sr, s.hop_length, s.f_min, s.f_max)==(16000, 160, 60., 7800.) and s.data_ptr()==spec.data_ptr()
    b = fa.to_fastaudio(s)
    assert type(b) is fa.AudioSpectrogram and b.settings==spec.settings and b.data_ptr()==spec.data_ptr()
    assert fa.to_slicer(fa.AudioToSpec.from_cfg(dict(mel=True, to_db=True))(bell)).f_max==8000.
    assert fa.to_slicer(bell).sr==bell.sr and not hasattr(bell, 'hop_length')

def test_conversion_of_ours(fa, bell):
    lm = LogMel(sr=16000, hop_length=200, f_max=7000.)(SlicerTensor(plain(bell), sr=16000)[:1])
    y = fa.to_fastaudio(lm)
    assert (y.sr, y.hop_length, y.f_min, y.f_max, y.n_mels, y.mel, bool(y.to_db), y.data_ptr())==(16000, 200, 60., 7000., 64, True, False, lm.data_ptr())
    y.show()
    z = fa.to_slicer(fa.SGRoll()(y.clone()))
    assert (z.sr, z.hop_length, z.f_max)==(16000, 200, 7000.)

def test_conversion_refuses(fa, bell):
    for f in (fa.AudioToSpec.from_cfg(fa.AudioConfig.BasicSpectrogram()), fa.AudioToMFCC()):
        with pytest.raises(ValueError, match='no mel bands'): fa.to_slicer(f(bell))

def test_nats(fa, a2s, mono):
    "The dB of fastaudio, in SLICER's unit, are `LogMel`'s, away from its floor"
    x = fa.AudioTensor(plain(mono)+.01*torch.randn(mono.shape), 16000)
    want = LogMel(eps=1e-10)(fa.to_slicer(x))
    close(fa.ToSlicer()(a2s(x)), want, 1e-3)
    lin = lambda **kw: fa.ToSlicer()(fa.AudioToSpec.from_cfg(dict(slaney, **kw))(x))
    close(lin(mel=True, to_db=False), want, 1e-3)
    close(lin(mel=True, to_db=True, power=1., stype='magnitude'), lin(mel=True, to_db=False, power=1.), 1e-3)
    assert torch.equal(plain(fa.ToSlicer()(fa.DeltaGPU()(a2s(x)))), plain(fa.ToSlicer()(a2s(x))))

def test_settings_follow_the_values(fa, spec):
    s = fa.ToSlicer()(spec)
    assert s.fastaudio==spec.settings and not hasattr(s, 'settings') and spec.to_db and not fa.to_fastaudio(s).to_db

def test_level(fa, mono):
    y = NormalizeLevel()(mono)
    assert type(y) is fa.AudioTensor and y.sr==16000
    close(plain(y), plain(NormalizeLevel()(fa.to_slicer(mono))), 1e-6)

# --- SLICER ---

def pretrain(dls, **kwargs):
    learn = SlicerLearner(dls, 'audiontt', arch_kwargs=encoder_kw, **model_kw, **kwargs)
    quiet(learn, learn.fit, 1)
    assert losses(learn).isfinite().all() and len(learn.recorder.losses)==len(dls.train)
    return learn

feeds = dict(
    plain     = lambda fa,a2s: ([], [a2s]),
    signal    = lambda fa,a2s: ([fa.RemoveSilence(), fa.ResizeSignal(950), fa.AddNoise(), fa.SignalShifter(), fa.ChangeVolume(), fa.SignalCutout(), fa.SignalLoss(), NormalizeLevel()], [a2s]),
    batch     = lambda fa,a2s: ([fa.ResizeSignal(950)], [fa.AddNoiseGPU(), fa.ChangeVolumeGPU(), fa.SignalCutoutGPU(), fa.SignalLossGPU(), a2s, fa.MaskFreqGPU(), fa.MaskTimeGPU(), fa.DeltaGPU()]),
    specs     = lambda fa,a2s: ([fa.ResizeSignal(950), a2s, fa.MaskFreq(size=6), fa.MaskTime(size=6), fa.SGRoll()], [fa.AddNoiseGPU()]),
    croptime  = lambda fa,a2s: ([a2s, fa.CropTime(950)], []),
    resized   = lambda fa,a2s: ([fa.ResizeSignal(1900)], [a2s, fa.TfmResizeGPU((64,96))]))

@pytest.mark.parametrize('name', feeds)
def test_feeds_slicer(fa, a2s, sounds, name):
    items,batches = feeds[name](fa, a2s)
    audio = fa.AudioBlock(crop_signal_to=950) if name=='plain' else fa.AudioBlock()
    dls = block(fa, sounds, items, [*batches, fa.ToSlicer()], audio, labels=name=='batch', bs=16)
    x = dls.one_batch()[0]
    assert type(x) is SlicerSpectrogram and x.shape==(16,1,64,96) and (x.sr, x.hop_length)==(16000, 160)
    learn = pretrain(dls)
    dls.show_batch(max_n=2); learn.show_views(2)

def test_any_fastaudio_config(fa, sounds):
    "Bands of another scale, number and hop than SLICER's: trained on, and embedded with the same front end"
    a2s = fa.AudioToSpec.from_cfg(dict(mel=True, to_db=True, n_fft=512, n_mels=32, top_db=80.))
    learn = pretrain(block(fa, sounds, [fa.ResizeSignal(1500), NormalizeLevel('peak')], [a2s, fa.ToSlicer()], fa.AudioBlock(), labels=False, bs=16))
    a = learn.encoder.front
    assert (a.n_mels, a.hop_length, a.level, a.sr)==(32, 256, 'peak', 16000) and abs(a.duration-1.5)<256/16000
    x = torch.randn(2,1,24000)*.1
    want = fa.ToSlicer()(a2s(NormalizeLevel('peak')(fa.AudioTensor(x, 16000))))
    front = FrontEnd.from_cfg(json.loads(json.dumps(a.cfg)))
    close(front(SlicerTensor(x, sr=16000)), want, 1e-6)
    assert learn.embed(fa.get_audio_files(sounds)[:3]).shape==(3,learn.encoder.num_features)

def test_repeat_is_kept(fa, a2s, sounds):
    dls = block(fa, sounds, fa.ResizeSignal(5000, pad_mode=fa.AudioPadType.Repeat), [a2s, fa.ToSlicer()], fa.AudioBlock(), labels=False)
    assert front_end(dls).pad=='repeat'
    odd = fa.AudioToSpec.from_cfg(dict(slaney, mel=True, to_db=True, window_fn=torch.hamming_window))
    with pytest.raises(ValueError, match='hann_window'): front_end(block(fa, sounds, batch_tfms=[odd, fa.ToSlicer()]))

def test_encoder_moves_over(fa, a2s, sounds, tmp_path):
    learn = pretrain(block(fa, sounds, NormalizeLevel(), [a2s, fa.ToSlicer()], labels=False, bs=16))
    enc = AudioEncoder.from_pretrained(learn.encoder.save_pretrained(tmp_path/'enc'))
    fs = fa.get_audio_files(sounds)[:4]
    close(enc.embed(fs), learn.embed(fs), 1e-5)

views = dict(MaskFreqGPU=lambda fa: fa.MaskFreqGPU(), MaskTimeGPU=lambda fa: fa.MaskTimeGPU(), MaskFreq=lambda fa: fa.MaskFreq(size=6), MaskTime=lambda fa: fa.MaskTime(size=6),
    SGRoll=lambda fa: fa.SGRoll(), SignalShifter=lambda fa: fa.SignalShifter(p=1.), AddNoiseGPU=lambda fa: fa.AddNoiseGPU(min_level=.1))

@pytest.mark.parametrize('name', views)
def test_augmentation_in_views(fa, name):
    x = torch.randn(4,1,64,96)
    was,t = x.clone(),fa.FastaudioTfm(views[name](fa))
    assert not torch.equal(t(x, x), was) and torch.equal(x, was)           # `clean` stays clean
    v = Views([t])
    v1,v2 = v(x)
    assert type(v1) is Tensor and v1.shape==x.shape
    assert not torch.equal(v1, x) and not torch.equal(v1, v2)
    kmix = KMix(bank_size=16).fit(torch.randn(64,1,64,96))
    kmix.push(torch.randn(8,1,64,96))
    a,b = Views([fa.FastaudioTfm(views[name](fa)), RandomResizeCrop(), kmix])(x)
    assert a.isfinite().all() and not torch.equal(a, b)

def test_views_with_settings_and_deltas(fa):
    x = torch.randn(3,1,64,96)
    y = fa.FastaudioTfm(fa.SignalShifter(p=1., max_time=.001), dict(sr=16000))(x)
    assert y.shape==x.shape
    y = fa.FastaudioTfm(fa.DeltaGPU())(x)
    assert y.shape==(3,3,64,96) and torch.equal(y[:,:1], x)

def test_slicer_with_fastaudios_views(fa, tiny, tmp_path):
    learn = tiny()
    learn.model.views.tfms.extend([fa.FastaudioTfm(fa.SGRoll()), fa.FastaudioTfm(fa.MaskFreqGPU()), fa.FastaudioTfm(fa.MaskTimeGPU())])
    quiet(learn, learn.fit, 1)
    assert losses(learn).isfinite().all()
    learn.show_views(2)
    learn.export(tmp_path/'a.pkl')
    assert [type(t.tfm).__name__ for t in load_learner(tmp_path/'a.pkl').model.views.tfms[3:]]==['SGRoll','MaskFreqGPU','MaskTimeGPU']

def test_deltas_for_the_encoder(fa, tiny):
    "Three channels: deltas are taken of the finished views"
    learn = tiny(arch_kwargs=dict(encoder_kw, in_chans=3), tfms=['mixup', 'crop', 'kmix', fa.FastaudioTfm(fa.DeltaGPU())])
    quiet(learn, learn.fit, 1)
    assert losses(learn).isfinite().all()
