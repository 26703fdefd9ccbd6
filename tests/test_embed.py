"Embedding: every kind of item, long files, broken files, and an index of recordings"
import json, os, shutil, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import pytest, soundfile as sf
from conftest import *
from slicer_fastai.use.embed import clock

@pytest.fixture(scope='module')
def enc():
    set_seed(0)
    return AudioEncoder('audiontt', **encoder_kw).eval()

def close(a, b, eps=1e-5): np.testing.assert_allclose(a, b, atol=eps)

@pytest.mark.parametrize('bs', [1,3,32,500])
@pytest.mark.parametrize('pool', ['max+mean','mean','max','mean+std'])
def test_one_vector_whatever_the_batch(files, bs, pool):
    set_seed(0); e = AudioEncoder('audiontt', pool=pool, layers='conv2 fc1 logmel', **encoder_kw).eval()
    fs = files[:60:7]
    alone = np.concatenate([e.embed(f) for f in fs])
    close(e.embed(fs, bs=bs), alone); close(e.embed(fs[::-1], bs=bs, n_workers=3)[::-1], alone)

def test_one_vector_whatever_the_kind(enc, files, tmp_path):
    f = files[20]; x,sr = sf.read(f, dtype='float32'); want = enc.embed([f])
    pack = pack_audio(f.parent, tmp_path/'pack', n_workers=1)
    df = pd.DataFrame(dict(n=[1], name=[f.name]))
    items = [str(f), f, [str(f)], L(f), x, torch.from_numpy(x), torch.from_numpy(x)[None], AudioTensor(torch.from_numpy(x)[None], sr=sr), [x], x[None,None],
             (x*32768).astype(np.int16), x.astype(np.float64), dict(array=x, sampling_rate=sr), [p for p in pack if str(p)==f.name]]
    for o in items: close(enc.embed(o, sr=sr), want)
    close(enc.embed(df, fn_col='name', path=f.parent), want); close(enc.embed(df, fn_col=1, path=f.parent), want)
    close(enc.embed(f.parent), enc.embed(pack), 1e-4); close(enc.embed(f.parent), enc.embed(tmp_path/'pack'), 1e-4)

@pytest.mark.parametrize('rate,ch', [(8000,1),(44100,2),(48000,6),(22050,1)])
def test_arrays_are_resampled_as_files_are(enc, tmp_path, rate, ch):
    x = (np.random.default_rng(0).normal(size=(rate*3, ch))*.1).cumsum(0).astype(np.float32); x = .5*x/abs(x).max()
    sf.write(tmp_path/'a.wav', x, rate, subtype='FLOAT')
    close(enc.embed(x.T, sr=rate), enc.embed(tmp_path/'a.wav'))
    assert not np.allclose(enc.embed(x.T, sr=rate), enc.embed(x.T, sr=16000), atol=1e-3)

@pytest.mark.parametrize('ext', ['wav','flac','ogg','mp3'])
def test_pieces_of_a_long_file_are_those_of_the_whole(enc, tmp_path, ext):
    "Cut at block borders, at another rate: what `windows` makes of the whole wave"
    x = (np.random.default_rng(0).normal(size=44100*70)*.1).cumsum(); x = (.5*x/abs(x).max()).astype(np.float32)
    with sf.SoundFile(f := tmp_path/f'a.{ext}', 'w', 44100, 1) as o: [o.write(x[i:i+44100]) for i in range(0, len(x), 44100)]      # libsndfile's Vorbis dies of more
    whole = enc.front.windows(read_window(f, None))
    with torch.no_grad(): want = enc(enc.front(whole)).numpy()
    close(enc.embed(f, level='window')[0], want, 1e-3); close(enc.embed([f, f], level='window', bs=7)[1], want, 1e-3)

@pytest.mark.parametrize('hop', [.1,.5,2.])
def test_hop(enc, files, hop):
    x = read_window(files[3], None)
    w = enc.embed(x, sr=16000, level='window', hop=hop)[0]
    assert len(w)==len(enc.front.starts(len(x), hop))
    with torch.no_grad(): close(w, enc(enc.front(enc.front.windows(x, hop=hop))).numpy())
    with pytest.raises(ValueError, match='hop'): enc.embed(x, sr=16000, hop=0)

@pytest.mark.parametrize('n', [1,100,15199,15200,15201,19000,19001,30400])
def test_any_length(enc, n):
    x = np.random.default_rng(0).normal(size=n).astype(np.float32)*.1
    assert np.isfinite(enc.embed(x, sr=16000)).all()
    assert len(enc.embed(x, sr=16000, level='window')[0])==(1 if n<=19000 else 2)
    assert len(enc.embed(x, sr=16000, level='frame')[0])==12*(1 if n<=19000 else 2)

def test_broken_items(enc, files, tmp_path):
    (tmp_path/'b.wav').write_text('no sound'); sf.write(tmp_path/'n.wav', np.full(40000, np.nan, np.float32), 16000, subtype='FLOAT')
    cut = tmp_path/'cut.wav'; cut.write_bytes(Path(files[0]).read_bytes()[:44])
    items = [files[0], tmp_path/'b.wav', files[1], tmp_path/'n.wav', tmp_path/'none.wav', cut, files[2]]
    with pytest.raises(AudioReadError, match='b.wav'): enc.embed(items)
    with pytest.raises(AudioReadError, match='n.wav'): enc.embed([files[0], tmp_path/'n.wav'])
    with pytest.warns(UserWarning, match='4 of 7.*b.wav'): e = enc.embed(items, errors='skip')
    close(e[[0,2,6]], enc.embed(files[:3])); assert np.isnan(e[[1,3,4,5]]).all()
    with pytest.warns(UserWarning): w = enc.embed(items, level='window', errors='skip')
    assert [len(o)>0 for o in w]==[True,False,True,False,False,False,True]
    with pytest.raises(AudioReadError): enc.embed([tmp_path/'b.wav'], errors='skip')
    with pytest.raises(AudioReadError, match='item 1.*NaN'): enc.embed([np.ones(20000), np.full(20000, np.nan)], sr=16000)

def test_wrong_questions(enc):
    x = np.zeros(16000)
    for kw,why in [(dict(level='word'),'level='), (dict(errors='log'),'errors='), (dict(sr=None),'sr=')]:
        with pytest.raises(ValueError, match=why): enc.embed(x, **{'sr':16000, **kw})
    with pytest.raises(ValueError, match='channels'): enc.embed(np.zeros((16000,2)), sr=16000)
    with pytest.raises(ValueError, match='no items'): enc.embed([])

def test_mode_and_files_are_given_back(files):
    e = AudioEncoder('audiontt', **encoder_kw).train()
    n = len(os.listdir('/proc/self/fd')) if Path('/proc/self/fd').exists() else 0
    e.embed(files[:20])
    assert e.training
    if n: assert len(os.listdir('/proc/self/fd'))<=n+1

def test_long_files_need_little_memory(tmp_path):
    "Twenty minutes at 44.1 kHz in stereo are 404 MB as floats: less than a quarter of it above ten seconds' need"
    code = '''
import sys, resource; from slicer_fastai.all import *
torch.set_num_threads(1); enc = AudioEncoder('audiontt', d=32, width=8)
enc.embed(np.ones((2,441000), np.float32)*.1, sr=44100); a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import soundfile as sf
with sf.SoundFile(sys.argv[1], 'w', 44100, 2) as f:
    for _ in range(120): f.write(np.random.default_rng(0).normal(size=(441000,2)).astype(np.float32)*.1)
enc.embed(sys.argv[1]); print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-a)/1024)
'''
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, str(tmp_path/'l.wav')], capture_output=True, text=True)
    assert float(r.stdout.split()[-1])<100, r.stderr

@pytest.fixture(scope='module')
def index(enc, sounds): return enc.index(sounds, labels=parent_label)

def test_index_rows_say_where(index, enc, files):
    "The window that a row names, read again, has the row's vector"
    for i in np.random.default_rng(0).permutation(len(index))[:10]:
        r = index.table.iloc[i]
        x = pad_to(read_window(r.file, r.seconds, start=r.start), enc.front.n_samples)
        close(enc.embed(x, sr=16000)[0], index.vectors[i], 1e-3)

def test_search(index, files, enc):
    r = index.search(str(files[5]), k=7)
    assert len(r)==7 and r.file.nunique()==7 and str(files[5]) not in r.file.tolist() and (np.diff(r.score)<=0).all()
    assert index.search(read_window(files[5], None), sr=16000, k=1).file[0]==str(files[5])
    assert len(index.search(files[5], k=200, per_file=False))>len(index.files)
    assert '<audio' in r._repr_html_() and type(r) is type(index.table)
    x = read_window(files[5], None); n = 15200
    if len(x)>2*n: assert index.search(x[n:2*n], sr=16000, k=1).start[0]==pytest.approx(.95)
    with pytest.raises(ValueError, match='label'): index.search_by_label('unheard of')
    assert len(index.search_by_label('drum' if 'drum' in index.labels else index.labels[0], others=False))==5
    with pytest.raises(ValueError, match='empty'): SoundIndex(enc).search(files[0])

def test_html_is_escaped(index):
    r = index.search(index.files[0], k=1).assign(file='<script>x</script>.wav')
    assert '<script>' not in r._repr_html_()

def test_only_what_is_new_is_embedded(enc, files, tmp_path, monkeypatch):
    for f in files[:5]: shutil.copy(f, tmp_path/f.name)
    ix,seen = enc.index(tmp_path),[]
    import slicer_fastai.use.search as s
    real = s.embed; monkeypatch.setattr(s, 'embed', lambda e, items, *a, **k: seen.extend(items) or real(e, items, *a, **k))
    ix.add(tmp_path); assert not seen
    shutil.copy(files[6], tmp_path/'new.wav'); ix.add(tmp_path); assert [Path(o.name).name for o in seen]==['new.wav']
    (tmp_path/'bad.wav').write_text('x')
    with pytest.warns(UserWarning, match='bad.wav'):
        shutil.copy(files[7], tmp_path/'new2.wav'); ix.add(tmp_path)
    assert len(ix.files)==7 and set(ix.file_of)==set(range(7))

def test_index_of_many_calls(enc, files, tmp_path):
    "Arrays are counted on, files are known by path, each once; labels given later are taken, those known stay; of two packs both clips"
    x = read_window(files[0], None); d = dict(array=x, sampling_rate=16000)
    ix = enc.index([d, x], sr=16000, level='clip').add([d]).add(files[0]).add(files[:1])
    assert ix.files==['item 0','item 1','item 2',str(files[0])] and [*ix.stamps]==[str(files[0])]
    ix.add([files[1], files[1], files[0]], labels=np.array(['a','a','b'])); assert ix.files[4:]==[str(files[1])] and ix.labels[3:]==['b','a']
    ix.add(files[:2], labels=pd.Series([None,'c'])); assert ix.labels[3:]==['b','c']
    for i in (0,1): (tmp_path/f'{i}').mkdir(); sf.write(tmp_path/f'{i}/a.wav', x*(i+1)/4, 16000); pack_audio(tmp_path/f'{i}', tmp_path/f'p{i}', labels=np.array(['z']))
    packs = [AudioPack(tmp_path/f'p{i}') for i in (0,1)]
    for _ in 'ab':
        for o in packs: ix.add(o)
    assert ix.files[5:]==[str(o.path/'a.wav') for o in packs]
    assert ix.search(packs[0][0], k=9).file.tolist().count(ix.files[5])==0

def test_an_index_stays_whole(enc, files, tmp_path, monkeypatch):
    "Broken files again and again, a stop by hand: what it held it holds; where the windows lie is known though a file has gone"
    for f in files[:2]: shutil.copy(f, tmp_path)
    (tmp_path/'bad.wav').write_text('x')
    with pytest.warns(UserWarning, match='bad.wav'): ix = enc.index(tmp_path)
    before = ix.table
    for _ in 'ab':
        with pytest.warns(UserWarning, match='none of 1 .*bad.wav'): ix.add(tmp_path, labels=parent_label)
        assert ix.table.drop(columns='label').equals(before)
    with pytest.raises(AudioReadError): enc.index(tmp_path/'bad.wav')
    import slicer_fastai.use.search as s
    real,new = s.embed,tmp_path/'new.wav'
    sf.write(new, np.random.default_rng(0).normal(size=80000)*.1, 16000)
    def stop(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt): m.setattr(s, 'window_starts', stop); ix.add(new)
    assert len(ix.files)==2 and len(ix.file_of)==len(ix.vectors)==len(ix.starts)==len(before)
    def gone(*args, **kwargs): res = real(*args, **kwargs); new.unlink(); return res
    monkeypatch.setattr(s, 'embed', gone)
    assert np.allclose(ix.add(new, max_s=1.5).starts[ix.file_of==2], [0,.55]) and ix.files[2]==str(new)

def test_a_long_question_in_pieces(index):
    q = np.random.default_rng(0).normal(size=(150,index.vectors.shape[1])).astype(np.float32); q[140] = index.vectors[-1]
    r = index.nearest(q, 3, False, np.ones(len(index), bool))
    mean,spread = index.vectors.mean(0),index.vectors.std(0)+1e-6
    unit = lambda z: z/np.linalg.norm(z, axis=1, keepdims=True)
    cosine = unit((index.vectors-mean)/spread)@unit((q-mean)/spread).T
    close(r.score, np.sort(cosine.max(1))[::-1][:3]); assert r.file[0]==index.files[-1] and r.score[0]>.999

def test_arrays_of_names(enc, files): close(enc.embed(np.array(list(map(str, files[:2])))), enc.embed(files[:2]))

def test_index_of_names_that_are_not_utf8(enc, files, tmp_path):
    bad = os.path.join(os.fsencode(tmp_path), b'caf\xe9.flac')
    try: shutil.copy(files[0], bad)
    except OSError: pytest.skip('a file system that wants UTF-8')
    shutil.copy(files[1], tmp_path); ix = SoundIndex.load(enc.index(tmp_path, labels=str).save(tmp_path/'i'))
    assert os.fsencode(ix.search(tmp_path/files[1].name, k=1).file[0])==bad
    for o in (repr(ix.table), ix.table._repr_html_(), str(pd.read_csv(ix.to_csv(tmp_path/'t.csv')).file.tolist())): assert 'caf' in o and o.encode()

def test_index_saved(index, tmp_path, files):
    back = SoundIndex.load(index.save(tmp_path/'i'))
    assert back.search(files[1]).equals(index.search(files[1])) and back.stamps==index.stamps
    assert not [o for o in (tmp_path/'i').rglob('*') if o.suffix in ('.pkl','.npy','.pt')]
    back.remove(files[:10]).save(tmp_path/'i')
    assert len(SoundIndex.load(tmp_path/'i').files)==len(index.files)-10 and len(list((tmp_path/'i').glob('vectors*')))==1
    j = json.loads((tmp_path/'i/index.json').read_text()); j['files'] = j['files'][:3]; (tmp_path/'i/index.json').write_text(json.dumps(j))
    with pytest.raises(AudioReadError, match='damaged'): SoundIndex.load(tmp_path/'i')

@pytest.mark.parametrize('write,read,needs', [(SoundIndex.to_csv,pd.read_csv,'csv'), (SoundIndex.to_parquet,pd.read_parquet,'pyarrow')])
def test_index_as_a_table(index, tmp_path, write, read, needs):
    pytest.importorskip(needs)
    back = read(write(index, tmp_path/'t'))
    assert back.columns.tolist()==[*index.table.columns, *[f'v{i}' for i in range(index.vectors.shape[1])]]
    assert back.file.tolist()==index.table.file.tolist() and back.label.tolist()==index.table.label.tolist()
    close(back.filter(regex=r'^v\d').to_numpy(), index.vectors, 1e-5); close(back.start, index.table.start, 1e-5)

def test_index_of_arrays_and_clips(enc):
    xs = [np.random.default_rng(i).normal(size=20000+i*9000).astype(np.float32)*.1 for i in range(4)]
    ix = enc.index(xs, level='clip', sr=16000)
    assert len(ix)==4 and ix.search(xs[2], sr=16000, k=1).file[0]=='item 2'
    assert ix.clusters(2).cluster.nunique()==2

def test_players_of_a_table_can_be_played(files):
    "pandas writes a line break as two letters and blanks as entities: attributes would be lost"
    enc = AudioEncoder('audiontt', **encoder_kw).eval()
    h = re.sub(r'base64,[A-Za-z0-9+/=]+', '', enc.index(files[:4]).search(files[0], k=2)._repr_html_())
    assert h.count('<audio ')==2 and h.count(' controls="controls"')==2 and '\\n' not in h and '&nbsp;' not in h

class Killed(BaseException): "Ends a writer where a signal would"

def two_indexes(files):
    res = []
    for seed in (1,2):
        set_seed(seed)
        res.append(AudioEncoder('audiontt', **encoder_kw).eval().index(files[seed:seed+4]))
    return res

def test_a_killed_save_leaves_the_old_index_or_the_new_one(files, tmp_path, monkeypatch):
    "Ended before each of its renames in turn: never the new encoder with the old vectors"
    old,new = two_indexes(files); real = os.replace; seen = set()
    for at in range(20):
        shutil.rmtree(tmp_path/'i', ignore_errors=True); old.save(tmp_path/'i'); n = iter(range(100))
        def replace(*a, **k):
            if next(n)==at: raise Killed
            return real(*a, **k)
        with monkeypatch.context() as m:
            m.setattr(os, 'replace', replace)
            try: new.save(tmp_path/'i')
            except Killed: pass
            else: break
        back = SoundIndex.load(tmp_path/'i'); want = old if back.files==old.files else new; seen.add(want is new)
        assert np.array_equal(back.vectors, want.vectors)
        close(back.encoder.embed(files[0]), want.encoder.embed(files[0]))
    assert at>=4 and False in seen
    new.save(tmp_path/'i'); assert len(list((tmp_path/'i').iterdir()))==3

def test_a_mixture_is_refused(files, tmp_path):
    "Another encoder of the same shape in the place of its own; a wrong network of the user's own; edits of the JSON"
    old,new = two_indexes(files); old.save(tmp_path/'i')
    own = next((tmp_path/'i').glob('encoder-*')); shutil.rmtree(own); new.encoder.save_pretrained(own)
    with pytest.raises(AudioReadError, match='another encoder'): SoundIndex.load(tmp_path/'i')
    with pytest.raises(AudioReadError, match='another encoder'): SoundIndex.load(tmp_path/'i', new.encoder)
    assert SoundIndex.load(tmp_path/'i', old.encoder).files==old.files
    text = (tmp_path/'i/index.json').read_text(); (tmp_path/'i/index.json').write_text(text.replace(Path(old.files[0]).name, 'x.wav'))
    with pytest.raises(AudioReadError, match='checksum'): SoundIndex.load(tmp_path/'i', old.encoder)

def old_format(index, path):
    "As 0.0.2 wrote it: no checksum, the encoder in `encoder`"
    index.save(path); next(path.glob('encoder-*')).rename(path/'encoder')
    meta = json.loads((path/'index.json').read_text()); meta['format'] = 1
    for k in ('checksum','encoder'): del meta[k]
    (path/'index.json').write_text(json.dumps(meta)); return meta

def test_old_indexes_open(files, tmp_path):
    ix = two_indexes(files)[0]; old_format(ix, tmp_path/'i'); back = SoundIndex.load(tmp_path/'i')
    assert back.files==ix.files and np.array_equal(back.vectors, ix.vectors)
    back.save(tmp_path/'i'); assert not (tmp_path/'i/encoder').exists()

def test_vectors_that_are_not_the_encoders_are_named(files, tmp_path):
    "Of another length, in an index without fingerprints"
    ix = two_indexes(files)[0]; old_format(ix, tmp_path/'i'); shutil.rmtree(tmp_path/'i/encoder')
    AudioEncoder('audiontt', d=64, width=8).save_pretrained(tmp_path/'i/encoder')
    with pytest.raises(AudioReadError, match='vectors have the shape'): SoundIndex.load(tmp_path/'i')

@pytest.mark.parametrize('change', [dict(files=3), dict(files=[3]*4), dict(labels=None), dict(stamps=[]), dict(hop='x'), dict(hop=-1), dict(level='word'), dict(vectors='../x'), dict(vectors=['a'])])
def test_edited_indexes_are_named(files, tmp_path, change):
    meta = old_format(two_indexes(files)[0], tmp_path/'i'); (tmp_path/'i/index.json').write_text(json.dumps(meta | change))
    with pytest.raises(AudioReadError, match='damaged'): SoundIndex.load(tmp_path/'i')

def test_csv_for_people(files, tmp_path, monkeypatch):
    "Cells that a spreadsheet would run; a full disk leaves the older table"
    shutil.copy(files[0], tmp_path/'=1+1.flac'); monkeypatch.chdir(tmp_path)
    ix = AudioEncoder('audiontt', **encoder_kw).eval().index(['=1+1.flac'], labels=['@cmd'])
    t = pd.read_csv(ix.to_csv(tmp_path/'t.csv')); assert set(t.file)=={"'=1+1.flac"} and set(t.label)=={"'@cmd"} and t.v0.dtype==float
    before = (tmp_path/'t.csv').read_bytes()
    with pytest.raises(TypeError): ix.to_csv(tmp_path/'t.csv', no_such_argument=1)
    assert (tmp_path/'t.csv').read_bytes()==before and len(list(tmp_path.iterdir()))==2

def test_times_are_shown_to_the_tenth():
    "Three places half a second apart are not the same place"
    t = Sounds(dict(file='a.wav', start=[103.5,104.,104.5], seconds=.95))
    for o in (repr(t), t._repr_html_()): assert all(k in o for k in ('0:01:43.5','0:01:44.0','0:01:44.5'))

def test_two_indexers_of_one_folder(files, tmp_path):
    "The second is told who is there; what the first had saved stays"
    from slicer_fastai.core.locks import locked
    from slicer_fastai.cli.commands import slicer_embed
    old,new = two_indexes(files); old.save(tmp_path/'i')
    with locked(tmp_path/'i', 'indexing'):
        with pytest.raises(OSError, match=f'process .*indexing'): new.save(tmp_path/'i')
        with pytest.raises(Exception, match='indexing'): slicer_embed([files[9]], out=tmp_path/'i')
    assert SoundIndex.load(tmp_path/'i').files==old.files
    assert slicer_embed([files[9]], out=tmp_path/'i').files[0]==5

# --- places in recordings ---

@pytest.fixture(scope='module')
def recording(files, tmp_path_factory):
    "A minute and a half of clips, one after the other"
    fn = tmp_path_factory.mktemp('recording')/'r.wav'
    x = np.concatenate([read_window(f, None) for f in files[::2]])[:90*16000]; assert len(x)==90*16000
    sf.write(fn, x, 16000, subtype='FLOAT'); return fn

def test_a_place_is_an_item(enc, recording):
    "A `Clip`, a row with end, with duration, in hours and minutes: the vector of that part of the wave"
    x = read_window(recording, None); want = enc.embed(x[int(63.5*16000):int(67.5*16000)], sr=16000)
    close(enc.embed(Clip(recording, start=63.5, seconds=4.)), want)
    for cells in (dict(start=[63.5], end=[67.5]), {'Begin Time (s)':['63.5'], 'End Time (s)':['67.5']}, dict(onset=['0:01:03.5'], duration=[4.])):
        close(enc.embed(pd.DataFrame(dict(**{'kind':['x'], 'filename':[str(recording)]}, **cells))), want)
        close(enc.embed(pd.DataFrame(dict(**{'kind':['x'], 'filename':[recording.name]}, **cells)), path=recording.parent), want)
    assert len(enc.embed(Clip(recording, start=63.5, seconds=4.), level='window')[0])==len(enc.front.starts(64000))

def test_what_was_taken_for_what_is_said_once(enc, recording, capsys):
    import slicer_fastai.use.embed as m; m.said.clear()
    t = pd.DataFrame({'filename':[str(recording)], 'onset':[3.], 'dur':[2.], 'species':['owl']})
    for _ in 'ab': enc.embed(t)
    out = capsys.readouterr().out; assert out.count('onset')==1 and all(o in out for o in ('filename','dur','species'))
    with pytest.raises(ValueError, match='neither ends nor durations'): enc.embed(t.drop(columns='dur'))
    with pytest.raises(ValueError, match='row 0.*-2 s'): enc.embed(t.assign(dur=-2.))

@pytest.mark.parametrize('start,seconds,begin', [(10.,.2,10.1-.475), (10.,0.,10.0005-.475), (0.,.2,0.), (.1,.2,0.), (89.9,.1,89.05)])
def test_short_places_have_their_surroundings(enc, recording, start, seconds, begin):
    "The window around the middle of the place, moved inwards at an end of the recording, which is said"
    t = pd.DataFrame(dict(file=[str(recording)], start=start, seconds=seconds)); at_an_end = begin in (0.,89.05)
    with warnings.catch_warnings(record=True) as w: warnings.simplefilter('always'); got = enc.embed(t)
    told = [str(o.message) for o in w if 'too near an end' in str(o.message)]
    assert len(told)==at_an_end and all('1 of 1' in o and clock(start) in o for o in told)
    want = read_window(recording, .95, start=begin); assert len(want)==15200
    close(got, enc.embed(want, sr=16000), 1e-3)

def test_labels_of_places_are_not_those_of_the_recording(enc, recording, files):
    "index.add(hits, labels) labelled every window of the recording"
    ix = enc.index(recording); n = len(ix); assert n>80
    hits = ix.search(files[6], k=3, per_file=False); ix.add(hits, labels=['a','b','a'])
    assert len(ix)==n and ix.labels==[None] and Counter(ix.table.label)=={None:n-3, 'a':2, 'b':1}
    for h in hits.itertuples(): assert ix.table.label[(ix.starts-h.start).__abs__().argmin()]==('b' if h.Index==1 else 'a')
    ix.add(hits[1:2], labels=['c']); assert Counter(ix.table.label)=={None:n-3, 'a':2, 'c':1} and len(ix.places)==3
    assert set(ix.search_by_label('c', k=3, per_file=False).label)<={None,'a'} and ix.search_by_label('c', others=False, k=1).label[0]=='c'

def test_places_without_their_recording(enc, recording):
    "Only their windows are embedded, with the recording's times; again: nothing; the whole recording later: all of it, labels stay"
    places = pd.DataFrame(dict(file=str(recording), start=[20.,50.,70.], end=[20.3,53.,70.95], label=['x','y','x']))
    ix = enc.index(places); starts = [20.15-.475,*(50+np.array(enc.front.starts(48000))/16000),70.]
    np.testing.assert_allclose(ix.starts, starts, atol=1e-4); assert ix.files==[str(recording)] and ix.table.label.tolist()==['x','y','y','y','x']
    for i in range(len(ix)): close(ix.vectors[i], enc.embed(read_window(recording, .95, start=ix.starts[i]), sr=16000)[0], 1e-3)
    assert len(ix.add(places))==5 and len(ix.add(places.assign(start=places.start+[0,0,.5])))==6
    ix.add(recording); assert len(ix)==len(enc.index(recording)) and ix.stamps and not ix.partly and Counter(ix.table.label)['y']>=3
    ix.remove(recording); assert len(ix)==0 and not ix.places

def test_a_vector_for_each_place(enc, recording, tmp_path):
    places = pd.DataFrame(dict(file=str(recording), start=[20.,50.], seconds=[4.,3.]))
    ix = enc.index(places, level='clip', labels=['x','y']); close(ix.vectors, enc.embed(places)); assert ix.table.seconds.tolist()==[4.,3.]
    back = SoundIndex.load(ix.save(tmp_path/'i')); assert back.table.equals(ix.table) and back.places==ix.places and back.partly==ix.partly
    assert len(back.add(places))==2

def test_a_question_that_is_a_place(enc, recording):
    "Left out are the windows that it overlaps, not all of its recording"
    ix = enc.index(recording); r = ix.search(Clip(recording, start=30., seconds=2.), k=500, per_file=False)
    assert len(r)==len(ix)-((ix.starts+.95>30) & (ix.starts<32)).sum()
    assert len(ix.search(recording, k=5))==0

def test_a_changed_recording_of_places(enc, recording, tmp_path):
    f = tmp_path/'a.wav'; shutil.copy(recording, f); t = pd.DataFrame(dict(file=[str(f)], start=[20.], seconds=[.95]))
    ix = enc.index(t); before = ix.vectors.copy(); x = read_window(f, None)[::-1]; sf.write(f, x, 16000, subtype='FLOAT'); os.utime(f, (1,1))
    ix.add(t); assert len(ix)==1 and abs(ix.vectors-before).max()>.01
    with pytest.warns(UserWarning, match='no.wav'): ix.add(pd.DataFrame(dict(file=[str(f),'no.wav'], start=[30.,1.], seconds=[.95,.95], label=['b','c'])))
    assert len(ix)==2 and {o.label for o in ix.places}=={'b'}
