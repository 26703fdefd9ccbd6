"Packed audio: the same windows as from files; resumed, verified, refused"
from conftest import *
import os, pickle, shutil, soundfile as sf

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
    close(read_window(pack[0], sr=8000), read_window(mixed/str(pack[0]), sr=8000), 1/32768)

@pytest.fixture
def P(monkeypatch):
    "The module, with four files in each shard"
    import slicer_fastai.data.pack as P
    monkeypatch.setattr(P, '_groups', lambda sizes: [(i, min(i+4, len(sizes))) for i in range(0, len(sizes), 4)])
    warnings.simplefilter('ignore')
    return P

def same(p, q):
    "Equal to the byte, and nothing else in the folder"
    assert [f.name for f in p.shards]==[f.name for f in q.shards] and [f.read_bytes() for f in p.shards]==[f.read_bytes() for f in q.shards]
    assert (p.lengths==q.lengths).all() and (p.crcs==q.crcs).all() and list(map(str,p))==list(map(str,q))
    assert sorted(o.name for o in p.path.iterdir())==sorted([*(o.name for o in p.shards),'index.npz'])

def test_interrupted_packing_goes_on(mixed, tmp_path, monkeypatch, P):
    "Stopped at any file, even with a torn shard beside the others, the result is the same to the byte; whole shards are not decoded again"
    ref,calls = pack_audio(mixed, tmp_path/'ref', n_workers=1),[]
    assert len(ref.shards)==4
    def stop(f, fn, sr, real=P._append):
        calls.append(fn)
        if len(calls)==stop.at: raise KeyboardInterrupt
        return real(f, fn, sr)
    monkeypatch.setattr(P, '_append', stop)
    for at in (2,6,11):
        d = tmp_path/f'stop{at}'; stop.at = at; calls.clear()
        with pytest.raises(KeyboardInterrupt): pack_audio(mixed, d, n_workers=0)
        assert len(list(d.glob('*.i16')))==(at-1)//4 and not list(d.glob('*.tmp'))
        with pytest.raises(AudioReadError, match='interrupted'): AudioPack(d)
        for f in ref.shards[(at-1)//4:]: (d/f'{f.name}.123.tmp').write_bytes(b'half a clip')
        calls.clear(); stop.at = -1
        p = pack_audio(mixed, d, n_workers=0)
        assert len(calls)==15-(at-1)//4*4
        same(p, ref)

def test_killed(mixed, tmp_path, P):
    "SIGKILL in the middle of a shard"
    ref,d = pack_audio(mixed, tmp_path/'ref', n_workers=1),tmp_path/'p'
    pid = os.fork()
    if pid==0:
        real,n = P._append,[]
        def die(f, fn, sr):
            res = real(f, fn, sr); n.append(1)
            if len(n)==7: f.flush(); os.kill(os.getpid(), 9)
            return res
        P._append = die
        try: pack_audio(mixed, d, n_workers=0)
        finally: os._exit(0)
    assert os.waitpid(pid, 0)[1]==9
    assert len(list(d.glob('*.i16')))==1 and len(list(d.glob('*.i16.*.tmp')))==1
    same(pack_audio(mixed, d, n_workers=1), ref)

def test_changed_collection_is_not_resumed(mixed, tmp_path, monkeypatch, P):
    "What was packed of other files is not taken for these"
    with monkeypatch.context() as m:
        m.setattr(P, '_gather', lambda *a,**k: 1/0)
        with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    sf.write(mixed/'00.wav', np.ones(20000)*.25, 16000)
    p = pack_audio(mixed, tmp_path/'p', n_workers=1, files=get_audio_files(mixed))
    assert (p.clip(0)==8192).all()
    same(p, p)

def test_stopped_before_the_index(mixed, tmp_path, monkeypatch, P):
    real = P.whole
    with monkeypatch.context() as m:
        m.setattr(P, 'whole', lambda fn: 1/0 if fn.name=='index.npz' else real(fn))
        with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    monkeypatch.setattr(P, '_append', lambda *a,**k: 1/0)                   # nothing is decoded again
    assert len(pack_audio(mixed, tmp_path/'p', n_workers=1))==14

def test_full_disk(mixed, tmp_path, P):
    "Named with the space it needs; the older pack stays, and so do the new shards that are whole"
    resource = pytest.importorskip('resource')
    old = pack_audio(mixed, tmp_path/'p', n_workers=1, files=get_audio_files(mixed)[:5])
    x = np.zeros(16000*20, np.int16)
    sf.write(mixed/'long.wav', x, 16000)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limit[1]))
    try:
        with pytest.raises(OSError) as e: pack_audio(mixed, tmp_path/'p', n_workers=1, force=True)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert AudioPack(tmp_path/'p', verify=True).meta==old.meta and not list((tmp_path/'p').glob('*.tmp'))
    p = pack_audio(mixed, tmp_path/'p', n_workers=1, force=True)
    same(p, p)
    torn = next(f.name for f in p.shards if f.name in str(e.value))
    assert (p.path/torn).stat().st_size>=x.nbytes and f'needs {2*p.lengths.sum()/2**20:.1f} MB' in str(e.value)

def test_a_long_file_in_pieces(tmp_path, P):
    "No more than some seconds of a file in memory"
    (tmp_path/'a').mkdir()
    x = np.random.default_rng(0).integers(-2**15, 2**15, 8000*60*20).astype(np.int16)
    sf.write(tmp_path/'a/x.wav', x, 8000)
    assert (pack_audio(tmp_path/'a', tmp_path/'p', sr=8000, n_workers=1).clip(0)==x).all()
    assert max(map(len, P._pieces(tmp_path/'a/x.wav', 16000)))<=20*16000

def test_names_that_are_not_utf8(folder, tmp_path, capsys):
    "Read, and shown escaped"
    d = folder(3)
    good,bad = [os.path.join(os.fsencode(d), b'caf\xe9'+o) for o in (b'.wav', b'_bad.wav')]
    try: os.rename(d/'00.wav', good)
    except OSError: pytest.skip('a file system that wants UTF-8')
    with open(bad, 'wb') as f: f.write(b'no sound')
    with pytest.warns(UserWarning, match=r'caf\\xe9_bad'): p = pack_audio(d, tmp_path/'p', n_workers=1)
    f = next(f for f in p if '\udce9' in str(f))
    assert os.path.join(os.fsencode(d), os.fsencode(f))==good and (f.pack.clip(f.i)==sf.read(good, dtype='int16')[0]).all()
    print(f'{f!r}', p, p.skipped, flush=True)                               # what can't be shown would raise UnicodeEncodeError
    assert r'caf\xe9.wav (' in repr(f) and p.skipped.file.tolist()==[r'caf\xe9_bad.wav']
    with pytest.raises(AudioReadError) as e: read_window(f, start=99.)
    str(e.value).encode()

@pytest.mark.parametrize('what', ['shard','index.npz'])
def test_every_truncation_is_refused(pack, what):
    f = pack.shards[0] if what=='shard' else pack.path/what
    b = f.read_bytes()
    for n in np.random.default_rng(0).integers(0, len(b), 20):
        f.write_bytes(b[:n])
        with pytest.raises(AudioReadError, match=f.name): AudioPack(pack.path)
    f.unlink()
    with pytest.raises(AudioReadError): AudioPack(pack.path)

def test_every_flip_is_found(pack):
    shard = pack.shards[0]
    b = bytearray(shard.read_bytes())
    for i in np.random.default_rng(0).integers(0, len(b), 10):
        c = b.copy(); c[i] ^= 1; shard.write_bytes(c)
        with pytest.raises(AudioReadError, match='checksum') as e: SlicerDataLoaders.from_pack(pack.path, verify=True)
        clip = np.searchsorted(pack.offsets, i//2, 'right')-1
        assert str(pack[clip]) in str(e.value)
    index,n = pack.path/'index.npz',0
    b = bytearray(index.read_bytes())
    for i in np.random.default_rng(0).integers(0, len(b), 40):
        c = b.copy(); c[i] ^= 255; index.write_bytes(c)
        try: p = AudioPack(pack.path)
        except AudioReadError: n += 1
        else: assert (p.lengths==pack.lengths).all() and list(map(str,p))==list(map(str,pack))    # a byte of zip's own that nobody reads
    assert n>20

def test_portable(pack, tmp_path):
    "Little-endian, relative: a copy elsewhere is the same"
    other = AudioPack(shutil.copytree(pack.path, tmp_path/'elsewhere'/'x'), verify=True)
    assert (np.concatenate([other.clip(i) for i in range(len(other))])==np.frombuffer(pack.shards[0].read_bytes(), '<i2')).all()
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
    assert e.shape==(14,learn.encoder.num_features)
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
