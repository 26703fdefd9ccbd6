"Packed audio: the same windows as from files; resumed, verified, refused"
from conftest import *
import pickle, shutil, soundfile as sf

@pytest.fixture
def mixed(folder):
    "Ten wav files, and others of other rates, channels, formats and lengths; one unreadable"
    d,rng = folder(10),np.random.default_rng(1)
    for n,sr,ch,ext,dur in [('a',44100,2,'flac',1.5), ('b',8000,1,'ogg',2.), ('c',22050,1,'wav',.3), ('d',48000,1,'mp3',2.)]:
        x = rng.normal(size=(int(sr*dur),ch)).cumsum(0)
        sf.write(d/f'{n}.{ext}', .5*x/abs(x).max(), sr)
    (d/'text.wav').write_text('no sound')
    return d

@pytest.fixture
def pack(mixed, tmp_path):
    with pytest.warns(UserWarning, match='1 of 15 files.*text.wav'): return pack_audio(mixed, tmp_path/'pack', labels=lambda f: f.stem[0], n_workers=1)

def test_windows_equal_those_of_the_files(mixed, pack):
    pos = np.random.default_rng(0).random(len(pack))
    for n,pad in [(15200,'zero'),(40000,'zero'),(40000,'repeat')]:
        ref = np.stack([pad_to(read_window(mixed/str(f), n/16000, pos=p), n, pad) for f,p in zip(pack,pos)])
        exact = [i for i,f in enumerate(pack) if str(f)[0].isdigit()]
        w = pack.windows(range(len(pack)), n, pos, pad)
        assert (w[exact]==ref[exact]).all()                                 # 16 bit, 16 kHz: bit for bit
        assert np.abs(w-ref).max()<=1/32768

def test_clips_stand_for_files(mixed, pack):
    for f in pack:
        for kw in (dict(pos=0.), dict(pos=1.), dict(start=.1), dict(duration=None)):
            close(read_window(f, **kw), read_window(mixed/str(f), **kw), 1/32768)
    with pytest.raises(AudioReadError, match='sr=16000'): read_window(pack[0], sr=8000)

def test_interrupted_packing_goes_on(mixed, tmp_path, monkeypatch):
    "Stopped after any group, even with a torn journal and half a group in the store, the result is the same to the byte"
    import slicer_fastai.pack as P
    monkeypatch.setattr(P, '_groups', lambda sizes, n, mb=0: [(i, min(i+4, len(sizes))) for i in range(0, len(sizes), 4)])
    warnings.simplefilter('ignore')
    ref,calls = pack_audio(mixed, tmp_path/'ref', n_workers=1),[]
    def stop(fn, sr, real=P._pcm):
        calls.append(fn)
        if len(calls)==stop.at: raise KeyboardInterrupt
        return real(fn, sr)
    monkeypatch.setattr(P, '_pcm', stop)
    for at in (2,6,11):
        d = tmp_path/f'stop{at}'; stop.at = at; calls.clear()
        with pytest.raises(KeyboardInterrupt): pack_audio(mixed, d, n_workers=0)
        assert not (d/'index.npz').exists()
        with pytest.raises(AudioReadError, match='interrupted'): AudioPack(d)
        with open(d/'journal.txt','a') as f: f.write('[[123')
        with open(next(d.glob('*.part')),'ab') as f: f.write(b'half a clip')
        calls.clear(); stop.at = -1
        p = pack_audio(mixed, d, n_workers=0)
        assert len(calls)==15-(at-1)//4*4
        assert p.store.read_bytes()==ref.store.read_bytes() and (p.lengths==ref.lengths).all() and list(map(str,p))==list(map(str,ref))
        assert sorted(o.name for o in d.iterdir())==sorted([p.store.name,'index.npz'])

def test_changed_collection_is_not_resumed(mixed, tmp_path, monkeypatch):
    "What was packed of other files is not taken for these"
    import slicer_fastai.pack as P
    warnings.simplefilter('ignore')
    real = P._finish
    monkeypatch.setattr(P, '_finish', lambda *a: 1/0)
    with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    monkeypatch.setattr(P, '_finish', real)
    sf.write(mixed/'00.wav', np.ones(20000)*.25, 16000)
    assert (pack_audio(mixed, tmp_path/'p', n_workers=1, files=get_audio_files(mixed)).clip(0)==8192).all()

def test_stopped_before_the_index(mixed, tmp_path, monkeypatch):
    import slicer_fastai.pack as P
    warnings.simplefilter('ignore')
    real = P._write
    monkeypatch.setattr(P, '_write', lambda fn,b: 1/0 if fn.name=='index.npz' else real(fn,b))
    with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    monkeypatch.setattr(P, '_write', real)
    monkeypatch.setattr(P, '_pcm', lambda *a,**k: 1/0)                      # nothing is decoded again
    assert len(pack_audio(mixed, tmp_path/'p', n_workers=1))==14

@pytest.mark.parametrize('what', ['store','index.npz'])
def test_every_truncation_is_refused(pack, what):
    f = pack.store if what=='store' else pack.path/what
    b = f.read_bytes()
    for n in np.random.default_rng(0).integers(0, len(b), 20):
        f.write_bytes(b[:n])
        with pytest.raises(AudioReadError, match=f.name): AudioPack(pack.path)
    f.unlink()
    with pytest.raises(AudioReadError): AudioPack(pack.path)

def test_every_flip_is_found(pack):
    b = bytearray(pack.store.read_bytes())
    for i in np.random.default_rng(0).integers(0, len(b), 10):
        c = b.copy(); c[i] ^= 1; pack.store.write_bytes(c)
        with pytest.raises(AudioReadError, match='checksum') as e: SlicerDataLoaders.from_pack(pack.path, verify=True)
        clip = np.searchsorted(pack.offsets, i//2, 'right')-1
        assert str(pack[clip]) in str(e.value)
    b = bytearray(pack.index.read_bytes()); n = 0
    for i in np.random.default_rng(0).integers(0, len(b), 40):
        c = b.copy(); c[i] ^= 255; pack.index.write_bytes(c)
        try: p = AudioPack(pack.path)
        except AudioReadError: n += 1
        else: assert (p.lengths==pack.lengths).all() and list(map(str,p))==list(map(str,pack))    # a byte of zip's own that nobody reads
    assert n>20

def test_portable(pack, tmp_path):
    "Little-endian, relative: a copy elsewhere is the same"
    other = AudioPack(shutil.copytree(pack.path, tmp_path/'elsewhere'/'x'), verify=True)
    assert (other.samples==np.frombuffer(pack.store.read_bytes(), '<i2')).all()
    assert [str(f) for f in other]==[str(f) for f in pack] and not any(Path(str(f)).is_absolute() for f in other)
    again = pickle.loads(pickle.dumps(other))
    assert len(pickle.dumps(other))<500 and (again.clip(3)==pack.clip(3)).all()

def test_nothing_readable(tmp_path):
    (tmp_path/'a').mkdir(); (tmp_path/'a/x.wav').write_text('no')
    with pytest.raises(ValueError, match='none of 1.*x.wav'): pack_audio(tmp_path/'a', tmp_path/'p', n_workers=1)

@pytest.mark.parametrize('num_workers', [0,1,2])
def test_an_epoch(pack, num_workers):
    "Each training clip once, however many workers; windows differ from epoch to epoch"
    dls = SlicerDataLoaders.from_pack(pack, bs=4, num_workers=num_workers, valid_pct=.2, device='cpu')
    assert (len(dls.train_ds),len(dls.valid_ds))==(12,2)
    ys = torch.cat([b[1] for b in dls.train])
    assert sorted(ys.tolist())==sorted(pack.codes[dls.train_ds.idxs].tolist())
    a,b = [torch.cat([b[0] for b in dls.train.new(shuffle=False)]) for _ in range(2)]
    assert a.shape==(12,1,64,96) and (a!=b).flatten(1).any(1).sum()>=8      # those longer than the window
    a,b = [torch.cat([b[0] for b in dls.valid]) for _ in range(2)]
    assert torch.equal(a,b)

def test_same_batches_as_from_files(mixed, pack):
    fs = [mixed/str(f) for f in pack]
    a = SlicerDataLoaders.from_pack(pack, bs=4, num_workers=0, device='cpu', duration=.5, level='rms', n_mels=40)
    b = SlicerDataLoaders.from_lists(mixed, fs, labels=[f.label for f in pack], bs=4, num_workers=0, device='cpu', duration=.5, level='rms', n_mels=40)
    assert a.front==b.front
    assert [str(mixed/o) for o in map(str,a.valid_ds.items)]==[str(o[0]) for o in b.valid_ds.items]
    close(a.valid.one_batch()[0], b.valid.one_batch()[0], 5e-3)
    assert a.valid.one_batch()[1].tolist()==b.valid.one_batch()[1].tolist() and list(a.vocab)==list(b.vocab)
    a,b = [sample_specs(d, 6) for d in (a,b)]
    assert a.shape==b.shape

@pytest.mark.parametrize('num_workers', [0,2])
def test_learner(pack, tmp_path, num_workers):
    dls = SlicerDataLoaders.from_pack(pack, bs=4, num_workers=num_workers, device='cpu')
    learn = SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw)
    quiet(learn, learn.fit, 2, 1e-3)
    assert len(losses(learn))==6 and losses(learn).isfinite().all()
    e = learn.embed(pack)
    assert e.shape==(14,32)
    learn.export(tmp_path/'l.pkl')
    close(load_learner(tmp_path/'l.pkl').embed(pack), e)
    clf = audio_learner(dls, learn.encoder)
    quiet(clf, clf.fit_one_cycle, 1)
    assert dls.show_batch(max_n=2, hear=True) is None

def test_what_does_not_fit_is_said(pack, mixed):
    with pytest.raises(ValueError, match='bs=0'): SlicerDataLoaders.from_pack(pack, bs=0)
    with pytest.raises(ValueError, match='f_max'): SlicerDataLoaders.from_pack(pack, f_max=9000.)
    with pytest.raises(TypeError, match='frob'): SlicerDataLoaders.from_pack(pack, frob=1)
    with pytest.raises(FileExistsError, match='force=True'): pack_audio(mixed, pack.path, files=get_audio_files(mixed)[:3])
    p = pack_audio(mixed, pack.path, files=get_audio_files(mixed)[:3], force=True)
    assert len(p)==3 and len(list(pack.path.iterdir()))==2
    with pytest.raises(ValueError, match='labels'): SlicerDataLoaders.from_pack(p, labels=True)
    with pytest.raises(ValueError, match='2 labels'): pack_audio(mixed, pack.path/'q', labels=['a','b'])
