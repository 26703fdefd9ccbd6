"An index of weeks of sound: bytes on disk, read in place"
import json, shutil
import pytest, soundfile as sf
from conftest import *
from slicer_fastai.use.big import BigIndex, Codec, fit_codec

@pytest.fixture(scope='module')
def enc():
    set_seed(0); return AudioEncoder('audiontt', d=64, width=8).eval()

@pytest.fixture(scope='module')
def long(files, tmp_path_factory):
    "Two recordings of a minute, and ten clips"
    d = tmp_path_factory.mktemp('long'); xs = [read_window(f, None) for f in files]
    for i in range(2): sf.write(d/f'r{i}.wav', np.concatenate(xs[i::2])[:60*16000+5000], 16000, subtype='FLOAT')
    for f in files[::11]: shutil.copy(f, d)
    return d

@pytest.fixture(scope='module')
def big(enc, long, tmp_path_factory): return enc.big_index(long, tmp_path_factory.mktemp('big')/'i', hop=.5, dims=200, sample=300, labels=parent_label, part=50)

def test_bytes_keep_the_vectors():
    "Of low rank, as embeddings are: cosines within a hundredth, vectors within a few percent"
    rng = np.random.default_rng(0); x = (rng.normal(size=(500,20))@rng.normal(size=(20,300))+rng.normal(size=300)).astype(np.float32)
    c = fit_codec(x, 64); codes = c.encode(x); assert codes.dtype==np.int8 and codes.shape==(500,64)
    z = (x-x.mean(0))/(x.std(0)+1e-6); z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(codes.astype(np.float32)@c.question(x).T, z@z.T, atol=.02)
    back = c.decode(codes, c.norms(x)); assert np.linalg.norm(back-x)/np.linalg.norm(x-x.mean(0))<.05
    assert fit_codec(x[:30], 64).dims==30

def test_the_same_rows_as_an_index_in_memory(enc, long, big):
    "Windows at piece borders included: files, starts, labels; vectors about the same"
    small = enc.index(long, hop=.5, labels=parent_label)
    a,b = [o.table.sort_values(['file','start'], ignore_index=True) for o in (small, big)]
    assert len(big.parts)>4 and a.drop(columns='start').equals(b.drop(columns='start')); np.testing.assert_allclose(a.start, b.start, atol=1e-6)
    order = [np.lexsort((o.starts, [o.files[i] for i in o.file_of])) for o in (small, big)]
    x,y = small.vectors[order[0]],big.vectors[order[1]]; assert np.linalg.norm(x-y)/np.linalg.norm(x-x.mean(0))<.2
    means = dict(zip(big.files, big.file_vectors())); want = small.file_vectors(); got = np.stack([means[f] for f in small.files])
    assert np.linalg.norm(got-want)/np.linalg.norm(want-want.mean(0))<.2

def test_it_finds_what_an_exact_search_finds(enc, long, big, files):
    small,hits = enc.index(long, hop=.5),[]
    for f in files[5::9]:
        for per_file in (False,True):
            a,b = [o.search(f, k=5, per_file=per_file) for o in (small, big)]
            assert len(a)==len(b)==5 and (np.diff(b.score)<=0).all() and b.file.nunique()==(5 if per_file else b.file.nunique())
            hits.append(len(set(zip(a.file, a.start.round(2))) & set(zip(b.file, b.start.round(2))))/5)
    assert np.mean(hits)>.85

def test_the_best_are_compared_exactly(enc, long, big, files, tmp_path):
    "Scores are those of vectors embedded again, not of bytes; where a recording is gone, of bytes, and that is said"
    small = enc.index(long, hop=.5)
    q = big.standardise(enc.embed([files[5]], level='window')[0])
    for o in big.search(files[5], k=6, per_file=False).itertuples():
        row = (small.file_of==small.files.index(o.file)) & np.isclose(small.starts, o.start, atol=1e-4)
        np.testing.assert_allclose(o.score, (big.standardise(small.vectors[row])@q.T).max(), atol=1e-4)
    shutil.copytree(long, tmp_path/'gone')
    rough = enc.big_index(tmp_path/'gone', tmp_path/'i', hop=.5, dims=8, sample=200, part=50)
    with warnings.catch_warnings(): warnings.simplefilter('error'); exact = rough.search(files[5], k=1).score[0]
    shutil.rmtree(tmp_path/'gone')
    with pytest.warns(UserWarning, match='bytes of the index alone'): by_bytes = rough.search(files[5], k=1).score[0]
    assert abs(exact-by_bytes)>1e-3

def test_a_killed_run_goes_on(enc, long, tmp_path, monkeypatch):
    "Pieces that are written are not embedded again; the result is that of a run at once"
    import slicer_fastai.use.big as m
    real,n = m.embed,[]
    def stops(e, items, *a, **k):
        if len(n)==16: raise KeyboardInterrupt
        n.append(items); return real(e, items, *a, **k)
    with monkeypatch.context() as c, pytest.raises(KeyboardInterrupt): c.setattr(m, 'embed', stops); enc.big_index(long, tmp_path/'i', hop=.5, dims=32, sample=100, part=30)
    kept = SoundIndex.load(tmp_path/'i'); assert isinstance(kept, BigIndex) and 0<len(kept)
    n.clear()
    def counts(e, items, *a, **k): n.append(items); return real(e, items, *a, **k)
    monkeypatch.setattr(m, 'embed', counts); ix = enc.big_index(long, tmp_path/'i', hop=.5, dims=32, part=30)
    windows = sum(len(enc.front.starts(o[0].n, .5)) for o in n); assert windows+len(kept)==len(ix)==len(enc.index(long, hop=.5))
    n.clear(); assert len(ix.add(long))==len(ix) and not n
    assert not list((tmp_path/'i').glob('*.tmp')) and not (tmp_path/'i/.slicer-lock').exists()

def test_labels_places_and_removal(enc, long, tmp_path):
    ix = enc.big_index(long, tmp_path/'i', hop=.5, dims=64, sample=200, part=40); f = str(long/'r0.wav')
    hits = ix.search(long/'r1.wav', k=2, per_file=False); ix.add(hits, labels='x'); n = int(ix.alive.sum())
    back = SoundIndex.load(tmp_path/'i'); assert back.places==ix.places and (back.row_labels=='x').sum()==(ix.row_labels=='x').sum()>=2 and not back.search(f).file.eq(f).any()
    assert 'x' in set(back.search_by_label('x', others=False, k=50, per_file=False).label)
    back.remove(f); again = SoundIndex.load(tmp_path/'i')
    assert f not in again.files and again.alive.sum()<n and f not in set(again.search(long/'r1.wav', k=50, per_file=False).file)
    assert again.add(f).alive.sum()==n
    with pytest.raises(ValueError, match='add the recording'): ix.add(pd.DataFrame(dict(file=['no.wav'], start=[0.], end=[1.], label=['a'])))
    d = ix.classifier(pd.DataFrame(dict(file=[f]*2+[str(long/'r1.wav')], start=[1.,5.,9.], end=[2.,6.,10.], label=['a','b','a']))); assert d.labels==['a','b']

def test_what_is_wrong_is_named(enc, big, long, tmp_path):
    def copy(): shutil.rmtree(tmp_path/'i', ignore_errors=True); shutil.copytree(big.path, tmp_path/'i'); return tmp_path/'i'
    p = copy(); (p/'part-00001.coarse.npy').write_bytes((p/'part-00001.coarse.npy').read_bytes()[:-9])
    with pytest.raises(AudioReadError, match='damaged'): SoundIndex.load(p)
    p = copy(); b = bytearray((p/'part-00001.fine.npy').read_bytes()); b[-1] ^= 1; (p/'part-00001.fine.npy').write_bytes(b)
    assert len(SoundIndex.load(p))==len(big)
    with pytest.raises(AudioReadError, match='part-00001.fine.npy differs'): BigIndex.load(p, verify=True)
    p = copy(); t = (p/'part-00000.json').read_text(); (p/'part-00000.json').write_text(t.replace('r0.wav', 'r9.wav').replace('16000', '1'))
    if (p/'part-00000.json').read_text()!=t:
        with pytest.raises(AudioReadError, match='checksum'): SoundIndex.load(p)
    p = copy(); (p/'part-00000.json').unlink()
    with pytest.raises(AudioReadError): SoundIndex.load(p)
    with pytest.raises(ValueError, match='give another folder'): enc.big_index(long, big.path, hop=.25)
    with pytest.raises(ValueError, match='not of arrays'): big.add(np.zeros(16000), sr=16000)
    (tmp_path/'bad.wav').write_text('x')
    with pytest.warns(UserWarning, match='bad.wav'): assert len(big.add([tmp_path/'bad.wav']))==len(big)
