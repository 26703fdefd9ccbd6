"Two hundred damaged files: each is named by verify_audio or read right; nothing crashes, hangs, or lets a NaN through"
from conftest import *
from slicer_fastai.audio.formats import look_into
import os, soundfile as sf

def whole(rng, d, i):
    "A good file of some format, and its bytes"
    ext,sr,ch = ['wav','flac','ogg','mp3'][i%4],int(rng.choice([8000,16000,44100,48000])),int(rng.choice([1,2]))
    x = rng.normal(size=(int(sr*1.5),ch)).cumsum(0)
    f = d/f'{i:03d}.{ext}'
    sf.write(f, .5*x/abs(x).max(), sr)
    return f,bytearray(f.read_bytes())

def truncate(rng, b): return b[:rng.integers(0, len(b))]
def zero_header(rng, b): n = int(rng.integers(4, 80)); b[:n] = bytes(n); return b
def random_header(rng, b): n = int(rng.integers(4, 80)); b[:n] = rng.bytes(n); return b
def random_field(rng, b): i = int(rng.integers(4, 60)); b[i:i+4] = rng.bytes(4); return b
def flip(rng, b):
    for i in rng.integers(0, len(b), 20): b[i] ^= 1<<int(rng.integers(8))
    return b

@pytest.fixture(scope='module')
def damaged(tmp_path_factory):
    d,rng = tmp_path_factory.mktemp('damaged'),np.random.default_rng(0)
    for i in range(185):
        f,b = whole(rng, d, i)
        f.write_bytes([truncate,zero_header,random_header,random_field,flip][i//4%5](rng, b))
    x = rng.normal(size=(24000,8)).astype(np.float32)*.1
    for n,y,sr in [('one',x[:1,0],16000), ('none',x[:0,0],16000), ('channels',x,16000), ('low',x[:,0],8000), ('high',x[:,0],192000),
                   ('nan',np.full(24000, np.nan, np.float32),16000), ('inf',np.full(24000, np.inf, np.float32),16000)]:
        sf.write(d/f'{n}.wav', y, sr, subtype='FLOAT')
    y = x[:,0].copy(); y[12000] = np.nan; sf.write(d/'nan_inside.wav', y, 16000, subtype='FLOAT')
    (d/'text.wav').write_text('this is a text\n'*100)
    (d/'empty.wav').touch()
    (d/'folder.wav').mkdir()
    (d/'broken.wav').symlink_to(d/'nowhere.wav')
    (d/'loop.wav').symlink_to(d/'loop.wav')
    sf.write(d/'secret.wav', x[:,0], 16000); os.chmod(d/'secret.wav', 0)
    (d/'noise.mp3').write_bytes(rng.bytes(5000))
    return sorted(d.iterdir())

def test_named_or_read_right(damaged):
    assert len(damaged)==200
    named,good = set(verify_audio(damaged, whole=True).file),0
    for f in damaged:
        try: ws = [read_window(f, pos=p) for p in (0,.3,.7,1)]
        except AudioReadError as e:
            assert str(f) in named, f'{f} cannot be read, but verify_audio does not say so: {e}'
            assert str(e.fn)==str(f) and e.reason and e.remedy
            continue
        assert all(np.isfinite(w).all() and 0<len(w)<=15200 and w.dtype==np.float32 for w in ws), f
        if str(f) in named: continue
        good += 1
        if look_into(f): continue                                       # its length is counted, see test_formats
        x = read_window(f, None)
        try: info = sf.info(str(f))
        except sf.LibsndfileError: continue                             # PyAV reads it
        assert len(x)==pytest.approx(np.ceil(info.frames*16000/info.samplerate), abs=1), f'{f}: {len(x)} samples'
        w = read_window(f, .2, pos=.5)
        i = round(.5*(np.ceil(info.frames*16000/info.samplerate)-len(w)))
        if f.suffix in ('.wav','.flac'): close(w, x[i:i+len(w)], 2e-4)
    bad = {Path(o).stem for o in named}
    assert bad>={'none','nan','inf','nan_inside','text','empty','folder','broken','loop','noise'}
    assert not bad & {'one','channels','low','high'}
    assert ('secret' in bad)==(os.geteuid()!=0)                              # root may read everything
    assert good>30 and len(named)>30

def test_training_on_damaged_files(damaged, told, tmp_path):
    "Workers neither hang nor crash; no NaN in the loss"
    dls = SlicerDataLoaders.from_lists(tmp_path, damaged, bs=16, num_workers=2, device='cpu', max_bad=1.)
    learn = SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw)
    quiet(learn, learn.fit, 1, 1e-3)
    assert len(losses(learn))>=2 and losses(learn).isfinite().all()
    assert 1<=len(told('skipped'))<=4

def test_packing_damaged_files(damaged, tmp_path):
    with pytest.warns(UserWarning, match='could not be read'): p = pack_audio(damaged[0].parent, tmp_path/'p', files=damaged, n_workers=1)
    assert len(p)+len(p.skipped)==200
    bad = {str(damaged[0].parent/o) for o in p.skipped.file}
    assert bad<=set(verify_audio(damaged, whole=True).file)                  # one that can be read through but not sought in is packed

@pytest.mark.parametrize('num_workers', [0,2])
def test_too_many_bad_files_stop(folder, num_workers):
    d = folder(40)
    dls = lambda **kw: SlicerDataLoaders.from_folder(d, bs=4, num_workers=num_workers, device='cpu', valid_pct=.1, **kw)
    learn = SlicerLearner(dls(), arch_kwargs=encoder_kw, **model_kw)
    more = SlicerLearner(dls(max_bad=.5), arch_kwargs=encoder_kw, **model_kw)
    gone = learn.dls.train_ds.items[5:15]
    for f in gone[:3]: f.write_text('x')
    warnings.simplefilter('ignore')
    quiet(learn, learn.fit, 1)                                               # 3 of 36 are borne
    for f in gone[3:]: f.write_text('x')
    with pytest.raises(Exception, match='too many unreadable.*max_bad=0.1 of 36') as e: quiet(learn, learn.fit, 1)
    assert sum(f.name in str(e.value) for f in gone)>=4 and 'verify_audio' in str(e.value)
    quiet(more, more.fit, 1)                                                 # 10 of 36 are borne where half may fail

@pytest.mark.parametrize('ext', ['wav','flac','ogg','mp3'])
@pytest.mark.parametrize('sr,ch', [(16000,1),(44100,2)])
def test_windows_are_slices_of_the_whole(tmp_path, ext, sr, ch):
    "Seeking decodes the same samples as reading through; resampling a window the same as resampling the file"
    import soxr
    x = np.random.default_rng(0).normal(size=(sr*6,ch)).cumsum(0)
    f = tmp_path/f'a.{ext}'
    sf.write(f, .5*x/abs(x).max(), sr)
    y = sf.read(f, dtype='float32', always_2d=True)[0].mean(1)
    y = y if sr==16000 else soxr.resample(y, sr, 16000)
    for start in (0, .31, 1.7, 3.3333, 5.04):
        i = round(start*16000)
        close(read_window(f, .95, start=start), y[i:i+15200], 2e-4)
    for places in ([0,.5], [.9,.1], [.3,.8]):                                # with the file open once, where the format allows
        n = Clip(f).n
        for p,w in zip(places, Clip(f).windows(15200, places)):
            i = round(p*(n-15200))
            close(w, y[i:i+15200], 2e-4)
    clip = Clip(f)
    for i in (0, 20000, 60000): close(clip.read(i, 15200, last=i==60000), y[i:i+15200], 2e-4)
