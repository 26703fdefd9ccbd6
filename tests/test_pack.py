"Packed audio: the same windows as from files; resumed, verified, refused"
from conftest import *
from slicer_fastai.core.locks import locked, FolderBusy
import json, os, pickle, shutil, soundfile as sf, time, zipfile

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
    monkeypatch.setattr(P, 'group_by_size', lambda sizes: [range(i, min(i+4, len(sizes))) for i in range(0, len(sizes), 4)])
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
    def stop(f, fn, sr, real=P.append_samples):
        calls.append(fn)
        if len(calls)==stop.at: raise KeyboardInterrupt
        return real(f, fn, sr)
    monkeypatch.setattr(P, 'append_samples', stop)
    for at in (2,6,11):
        d = tmp_path/f'stop{at}'; stop.at = at; calls.clear()
        with pytest.raises(KeyboardInterrupt): pack_audio(mixed, d, n_workers=0)
        assert len(list(d.glob('*.i16')))==(at-1)//4 and not list(d.glob('*.tmp'))
        with pytest.raises(AudioReadError, match='interrupted'): AudioPack(d)
        d.mkdir(exist_ok=True)                                              # gone, where nothing was written
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
        real,n = P.append_samples,[]
        def die(f, fn, sr):
            res = real(f, fn, sr); n.append(1)
            if len(n)==7: f.flush(); os.kill(os.getpid(), 9)
            return res
        P.append_samples = die
        try: pack_audio(mixed, d, n_workers=0)
        finally: os._exit(0)
    assert os.waitpid(pid, 0)[1]==9
    assert len(list(d.glob('*.i16')))==1 and len(list(d.glob('*.i16.*.tmp')))==1
    same(pack_audio(mixed, d, n_workers=1), ref)

def test_changed_collection_is_not_resumed(mixed, tmp_path, monkeypatch, P):
    "What was packed of other files is not taken for these"
    with monkeypatch.context() as m:
        m.setattr(P.PackWriter, 'write_index', lambda *a,**k: 1/0)
        with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    sf.write(mixed/'00.wav', np.ones(20000)*.25, 16000)
    p = pack_audio(mixed, tmp_path/'p', n_workers=1, files=get_audio_files(mixed))
    assert (p.clip(0)==8192).all()
    same(p, p)

def test_stopped_before_the_index(mixed, tmp_path, monkeypatch, P):
    with monkeypatch.context() as m:
        m.setattr(P, 'write_pack_index', lambda *a: 1/0)
        with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    monkeypatch.setattr(P, 'append_samples', lambda *a,**k: 1/0)                   # nothing is decoded again
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
    assert (pack_audio(tmp_path/'a', tmp_path/'p', sr=8000, n_workers=1, segment=None).clip(0)==x).all()
    assert max(map(len, P.decoded_pieces(tmp_path/'a/x.wav', 16000)))<=20*16000

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

# --- beyond full scale ---

def write(fn, x, sr=16000, subtype='FLOAT'):
    sf.write(fn, x, sr, subtype=subtype)
    return fn

def test_floats_beyond_full_scale_come_back_as_they_are(tmp_path):
    "Clipped, a sine at three times full scale had a cosine of .95 to the truth; whole numbers come back to the bit"
    d = tmp_path/'a'; d.mkdir()
    sine = np.sin(np.arange(48000)/20)
    whole_numbers = np.rint(sine*30_000)
    for name,x in dict(loud=sine*3, normal=sine*.5, full=sine/abs(sine).max(), integers=whole_numbers, edge=np.sign(sine)).items(): write(d/f'{name}.wav', x)
    with pytest.warns(UserWarning, match='2 recordings go beyond full scale.*integers.wav by a factor of 3.277e.04: integers stored as floats'):
        p = pack_audio(d, tmp_path/'p', n_workers=1)
    for q in (p, AudioPack(tmp_path/'p', verify=True), pickle.loads(pickle.dumps(p))):
        for i,clip in enumerate(q):
            truth,scale = read_window(d/str(clip), None),q.scales[i]
            close(clip.read(), truth, .51*scale/32768)
            close(q.windows([i], 16000, .3)[0], read_window(d/str(clip), 1., pos=.3), .51*scale/32768)
    names = [str(o) for o in p]
    assert np.array_equal(p[names.index('integers.wav')].read(), whole_numbers.astype(np.float32))
    assert p.scales[names.index('normal.wav')]==1 and p.meta['format']==3                     # older versions refuse what they would read wrong
    assert not warned_when_packed_again(d, tmp_path/'p')

def warned_when_packed_again(d, dest):
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        pack_audio(d, dest, n_workers=1)
    return w

def test_a_pack_within_full_scale_is_one_of_before(folder, tmp_path):
    p = pack_audio(folder(4), tmp_path/'p', n_workers=1)
    assert p.meta['format']==2 and (p.scales==1).all()

def test_what_resampling_adds_is_kept(tmp_path):
    "A square wave at full scale overshoots when it is resampled"
    d = tmp_path/'a'; d.mkdir()
    write(d/'x.wav', np.sign(np.sin(np.arange(44100)/30)), 44100, 'PCM_16')
    p = pack_audio(d, tmp_path/'p', n_workers=1)
    truth = read_window(d/'x.wav', None)
    assert abs(truth).max()>1.05
    close(p[0].read(), truth, .51*p.scales[0]/32768)

# --- two at once, killed, interrupted ---

def test_a_second_process_is_refused_by_name(mixed, tmp_path, P):
    with locked(tmp_path/'p', 'packing'):
        with pytest.raises(FolderBusy, match='has been packing there since'): pack_audio(mixed, tmp_path/'p', n_workers=1)
    ref = pack_audio(mixed, tmp_path/'p', n_workers=1)
    with locked(tmp_path/'p', 'packing'): assert len(pack_audio(mixed, tmp_path/'p'))==len(ref)        # there is nothing to be written

def test_interrupted_before_anything_is_written(mixed, tmp_path, monkeypatch, P, capsys):
    "No empty folder, and a word about it"
    def stop(*args): raise KeyboardInterrupt
    monkeypatch.setattr(P, 'append_samples', stop)
    with pytest.raises(KeyboardInterrupt): pack_audio(mixed, tmp_path/'p', n_workers=0)
    assert not (tmp_path/'p').exists() and 'interrupted before anything was written' in capsys.readouterr().out

def test_temporary_files_of_other_machines_go(mixed, tmp_path, P):
    "The lock says that nobody writes: whatever is half written was left by somebody who was killed"
    d = tmp_path/'p'; d.mkdir()
    (d/'audio-01234567-000.i16.89abcdef-77-abcd_123.tmp').write_bytes(bytes(1000))
    (d/'notes.tmp').write_text('mine')
    pack_audio(mixed, d, n_workers=1)
    assert not list(d.glob('*.i16.*.tmp')) and (d/'notes.tmp').exists()

@pytest.mark.parametrize('text', ['', '[]', '{"bytes":1,"rows":[]}', '{"rows":3}'])
def test_a_damaged_table_of_a_part_is_written_again(mixed, tmp_path, monkeypatch, P, text):
    ref = pack_audio(mixed, tmp_path/'ref', n_workers=1)
    with monkeypatch.context() as m:
        m.setattr(P.PackWriter, 'write_index', lambda *a,**k: 1/0)
        with pytest.raises(ZeroDivisionError): pack_audio(mixed, tmp_path/'p', n_workers=1)
    next((tmp_path/'p').glob('*.json')).write_text(text)
    same(pack_audio(mixed, tmp_path/'p', n_workers=1), ref)

# --- an index from anybody ---

def edited(pack, arrays=(), **meta):
    "The pack with parts of its index replaced"
    from slicer_fastai.data.pack import read_pack_index, write_pack_index
    a,m = read_pack_index(pack.path)
    write_pack_index(pack.path/'index.npz', {**a, **dict(arrays)}, {**m, **meta})
    return pack.path

@pytest.mark.parametrize('changes', [dict(segment='x'), dict(segment=[1e-9,0]), dict(segment=[math.nan,0]), dict(segment=[True,1]), dict(sr=1e9), dict(skipped=3),
    dict(shards=['a','b']), dict(shards=3), dict(vocab=None), dict(format=9), dict(arrays=dict(scales=np.zeros(14))), dict(arrays=dict(scales=np.full(14, np.nan))),
    dict(arrays=dict(scales=np.ones(3))), dict(arrays=dict(codes=np.full(14, 99))), dict(arrays=dict(lengths=np.full(14, 2**62)))])
def test_an_index_that_does_not_fit_is_named(pack, changes):
    with pytest.raises(AudioReadError, match='index.npz.*damaged'): AudioPack(edited(pack, **changes))

def test_an_index_that_claims_more_than_it_holds(pack):
    "Refused before anything is allocated"
    fn = pack.path/'index.npz'
    header = np.lib.format.magic(1,0)
    text = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(117)+b'\n'
    with zipfile.ZipFile(fn) as z: members = {o:z.read(o) for o in z.namelist()}
    members['lengths.npy'] = header+len(text).to_bytes(2, 'little')+text+bytes(64)
    for compression,extra in ((zipfile.ZIP_STORED, {}), (zipfile.ZIP_DEFLATED, {'bomb.npy':bytes(2**27)})):
        with zipfile.ZipFile(fn, 'w', compression) as z:
            for name,data in (members|extra).items(): z.writestr(name, data)
        start = time.perf_counter()
        with pytest.raises(AudioReadError, match='index.npz.*damaged'): AudioPack(pack.path)
        assert time.perf_counter()-start<1

# --- long recordings ---

@pytest.fixture
def recordings(tmp_path):
    "Six recordings, 3 to 95 s, each a ramp of its own: a sample says where it comes from"
    d = tmp_path/'field'; d.mkdir()
    for i,seconds in enumerate((3, 31, 95, 62.5, 34, 45)): sf.write(d/f'{i}.wav', np.full(int(seconds*1000), 1000*(i+1), np.int16), 1000)
    return d

def test_long_recordings_are_their_segments(recordings, tmp_path, capsys):
    p = pack_audio(recordings, tmp_path/'p', sr=1000, n_workers=1)
    assert '5 of 6 recordings are cut: 28 clips, segments of 10 s' in capsys.readouterr().out
    assert np.bincount(p.recording).tolist()==[1,3,10,6,3,5]                        # a rest of half a segment or more is one
    assert all(p.lengths[p.recording==k].sum()==p.recordings['lengths'][k] for k in range(6))
    for q in (p, AudioPack(tmp_path/'p'), pickle.loads(pickle.dumps(p))):
        assert len(q)==28 and q[13].start==q.start[13]/1000==90. and str(q.file(13))=='2.wav' and q[13].seconds==5.
        for i in range(28):
            assert set(np.rint(q[i].read()*32768))=={1000*(q.recording[i]+1)} and len(q[i].read())==q.lengths[i]
            assert set(q.clip(i))=={1000*(q.recording[i]+1)}
    assert AudioPack(tmp_path/'p', verify=True).verify().empty

def test_segments_are_the_places_of_the_files(recordings, tmp_path):
    "As `segments` gives them for files"
    from slicer_fastai.data.segments import segments
    for seconds in (10., 7., 200.):
        p = pack_audio(recordings, tmp_path/f'{seconds}', sr=1000, segment=seconds, n_workers=1)
        places = segments(get_audio_files(recordings), seconds)
        assert p.recording.tolist()==places.which.tolist() and (p.start/1000).tolist()==places.start.tolist()
        close(p.lengths/1000, places.seconds, 2e-3)

def test_another_segment_rewrites_the_index_only(recordings, tmp_path):
    p = pack_audio(recordings, tmp_path/'p', sr=1000, n_workers=1)
    t = [o.stat().st_mtime_ns for o in p.shards]
    for segment,n in ((None,6), (5.,55), ('long',28)):
        p = pack_audio(recordings, tmp_path/'p', sr=1000, segment=segment, n_workers=1)
        assert len(p)==len(AudioPack(tmp_path/'p'))==n and [o.stat().st_mtime_ns for o in p.shards]==t
    with pytest.raises(ValueError, match="segment='short'"): pack_audio(recordings, tmp_path/'p', sr=1000, segment='short')

def test_with_labels_recordings_stay_whole_by_default(recordings, tmp_path):
    assert len(pack_audio(recordings, tmp_path/'p', sr=1000, labels=list('aabbcc'), n_workers=1))==6
    p = pack_audio(recordings, tmp_path/'q', sr=1000, labels=list('aabbcc'), segment=10., n_workers=1)
    assert [p.label(i) for i in range(len(p))]==['aabbcc'[k] for k in p.recording]

def test_no_recording_trains_and_validates(recordings, tmp_path, capsys):
    p = pack_audio(recordings, tmp_path/'p', sr=1000, n_workers=1)
    for seed in range(5):
        dls = SlicerDataLoaders.from_pack(p, seed=seed, bs=4, num_workers=0, device='cpu', f_max=400., n_fft=128, hop_length=10, n_mels=16)
        train,valid = [set(p.recording[ds.idxs]) for ds in (dls.train_ds, dls.valid_ds)]
        assert train and valid and not train&valid and len(dls.train_ds)+len(dls.valid_ds)==28
    x = dls.train.new(after_batch=None).one_batch()[0].as_subclass(Tensor)
    assert x.shape[1]==2 and all(len(row[row!=0].unique())==1 for row in x)          # both windows of a clip come from one recording
    one = pack_audio(recordings, tmp_path/'one', files=[recordings/'2.wav'], sr=1000, n_workers=1)
    dls = SlicerDataLoaders.from_pack(one, valid_pct=.2, bs=4, num_workers=0, device='cpu', f_max=400., n_fft=128, hop_length=10, n_mels=16)
    assert dls.valid_ds.idxs.tolist()==[8,9] and 'one recording only: its last 2 segments validate' in capsys.readouterr().out

def test_a_million_segments(tmp_path):
    "Found in a second, in arrays"
    from slicer_fastai.data.pack import segment_samples
    recording,start,n = segment_samples(np.full(1000, 16000*10_000), 160_000)
    assert len(recording)==1_000_000 and start[-1]==16000*9990 and (n==160_000).all()

# --- channels ---

@pytest.mark.parametrize('channel,want', [('mean',lambda a,b: (a+b)/2), (0,lambda a,b: a), (1,lambda a,b: b), ('loudest',lambda a,b: b)])
@pytest.mark.parametrize('how', ['pack','shards'])
def test_a_channel_can_be_chosen_in_packs_and_shards(tmp_path, channel, want, how):
    "Of two tones, one louder: what training hears, and what embedding the files hears"
    d,t = tmp_path/'d',np.arange(16000)/16000
    d.mkdir()
    a,b = .1*np.sin(2*np.pi*300*t),.3*np.sin(2*np.pi*1000*t)
    for i in range(8): sf.write(d/f'{i}.wav', np.stack([a,b], 1), 16000, subtype='FLOAT')
    kw = dict(bs=4, num_workers=0, device='cpu', level=None, duration=1.)
    if how=='pack':
        pack_audio(d, tmp_path/'p', channel=channel)
        dls = SlicerDataLoaders.from_pack(tmp_path/'p', **kw)
        assert np.abs(dls.train_ds[0][0][0].numpy()-want(a,b)).max()<1e-4
        assert AudioPack(tmp_path/'p').channel==channel
    else:
        index = shard_folder(d, tmp_path/'s')
        dls = SlicerDataLoaders.from_webdataset(index, channel=channel, **kw)
        assert np.abs(dls.train_ds[0][0][0].numpy()-want(a,b)).max()<1e-4
    assert dls.front.channel==channel and np.abs(dls.front.read(d/'0.wav')[0].numpy()-want(a,b)).max()<1e-6

def test_a_pack_of_another_channel_is_named(tmp_path, folder):
    d = folder(6, ch=2)
    pack_audio(d, tmp_path/'p')
    with pytest.raises(ValueError, match=r"packed with channel='mean', 'loudest' is wanted: pack_audio\(…, channel='loudest'\)"):
        SlicerDataLoaders.from_pack(tmp_path/'p', channel='loudest')
    with pytest.raises(ValueError, match="channel='mean', 1 is wanted"): SlicerDataLoaders.from_pack(tmp_path/'p', front=FrontEnd(channel=1))
    with pytest.raises(FileExistsError, match='channel'): pack_audio(d, tmp_path/'p', channel=1)
    with pytest.raises(ValueError, match="channel='left'"): pack_audio(d, tmp_path/'q', channel='left')
    with pytest.warns(UserWarning, match=r"packed with channel='mean', not with 1"): get_clips(AudioPack(tmp_path/'p'), 16000, channel=1)
    with pytest.raises(AudioReadError, match='damaged'): AudioPack(edited(AudioPack(tmp_path/'p'), channel=['a']))
