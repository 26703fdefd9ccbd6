"Tar shards: every clip once an epoch, whoever reads it; breaks; what is broken; parts of a large collection"
from conftest import *
import json, shutil, tarfile, time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

@pytest.fixture(scope='session')
def index(files, tmp_path_factory):
    "36 clips in five shards, each with a label of its own, which tells who was read"
    fs = list(files[::3])
    return shard_folder(fs[0].parents[1], tmp_path_factory.mktemp('shards'), files=fs, labels=[f'{i:02d}' for i in range(36)], clips=8)

def make(index, bs=4, num_workers=0, valid_pct=.12, duration=.1, **kwargs):
    "Loaders of 32 clips to train on and 4 to validate with"
    return SlicerDataLoaders.from_webdataset(index, bs=bs, num_workers=num_workers, valid_pct=valid_pct, duration=duration, device='cpu', **kwargs)

def who(dl): return [b[1].tolist() for b in dl]

@pytest.mark.parametrize('num_workers', [0,2])
def test_every_clip_once_in_an_epoch(index, monkeypatch, num_workers):
    "By two processes, each with its workers; the windows are the same, whoever draws them"
    dls = make(index, num_workers=num_workers)
    alone = who(dls.train)
    assert sorted(sum(alone, []))==sorted(set(sum(alone, []))) and [len(b) for b in alone]==[4]*8==[4]*len(dls.train)
    assert sum(who(dls.train), [])!=sum(alone, [])                            # another order in the next epoch
    both = {'train':[], 'valid':[]}
    for rank in '01':
        monkeypatch.setenv('RANK', rank); monkeypatch.setenv('WORLD_SIZE', '2')
        d = make(index, num_workers=num_workers)
        for k in both:
            dl = getattr(d, k); both[k].append(who(dl))
            assert len(both[k][-1])==len(dl)
    assert [[len(b) for b in r] for r in both['train']]==[[4]*4]*2
    train,valid = (sum(sum(both[k], []), []) for k in both)
    assert sorted(train)==sorted(sum(alone, [])) and len(valid)==4 and sorted(train+valid)==list(range(36))

def test_windows_do_not_depend_on_workers(index):
    by = lambda n: {int(y):x for b in make(index, num_workers=n).train for x,y in zip(b[0].as_subclass(Tensor), b[1])}
    a,b = by(0),by(2)
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def test_shuffle_buffer(index):
    "With a buffer of one, clips of a shard stay together; with one of 20 they mix; the order is the seed's"
    shard = {int(label):i for i,u in enumerate(find_shards(index)[0]) for _,label in members(u, 0, 8) if label}
    runs = lambda **kw: sum(a!=b for a,b in itertools.pairwise(shard[o] for b in who(make(index, **kw).train) for o in b))
    assert runs(buffer=1)<=5 and runs(buffer=20)>10
    assert who(make(index, seed=1).train)==who(make(index, seed=1).train)!=who(make(index, seed=2).train)

@pytest.mark.parametrize('num_workers', [0,2])
def test_epoch_goes_on_at_a_batch(index, num_workers):
    for n in (1,5,8):
        full,rest = who(make(index, num_workers=num_workers).train),who(make(index, num_workers=num_workers).train.from_batch(n))
        assert rest==full[n:]

def test_a_killed_fit_goes_on(index, tiny, tmp_path):
    "The same losses as without the break, and the shards that were done stay closed"
    learn = lambda: tiny(make(index, labels=False, duration=.95))
    a,b,c = learn(),learn(),learn()
    def fit(l, **kwargs): set_seed(1); quiet(l, l.fit, 1, **kwargs)
    fit(a)
    class Kill(Callback):
        order = Resume.order+1
        def after_batch(self):
            if self.training and self.iter==5: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(b, cbs=[Resume(tmp_path/'r', minutes=0), Kill()])
    fit(c, cbs=Resume(tmp_path/'r'))
    assert len(losses(c))==8 and torch.equal(losses(a), losses(c)) and not differ(state(a.model), state(c.model))

@pytest.fixture
def spoilt(index, tmp_path):
    "The shards; in the second a member is no sound, the third is cut off after four clips"
    d = shutil.copytree(index.parent, tmp_path/'spoilt')
    urls = find_shards(d)[0]
    with tarfile.open(urls[1]) as t: at = [m.offset_data for m in t if m.name.endswith('.flac')][2]
    with open(urls[1], 'r+b') as f: f.seek(at); f.write(b'no sound'*8)
    with tarfile.open(urls[2]) as t: at = [m.offset for m in t if m.name.endswith('.cls')][4]
    os.truncate(urls[2], at)
    return d

def test_what_is_broken_is_named_and_counted_once(spoilt, told):
    "In training another clip takes its place; in validation it is left out"
    lost = sum(1 for u,n in zip(*find_shards(spoilt)[:2]) for o,_ in members(u, 0, n) if isinstance(o, AudioReadError))
    assert 3<=lost<=4
    dls = make(spoilt, max_bad=.5)
    for _ in range(2): assert [len(b) for b in who(dls.train)]==[4]*8
    said, = told('could not be read')
    assert said.startswith(f'{lost+1} clip(s) could not be read') and '.tar: clip' in said
    dl = make(spoilt, max_bad=.5).valid
    whole = dl.new(dataset=type(dl.dataset)([(u,0,n) for u,n in zip(*find_shards(spoilt)[:2])], dl.dataset.read, 1, dl.dataset.cat))
    assert len(sum(who(whole), []))==36-lost-1
    with pytest.raises(AudioReadError, match='too many unreadable'): who(make(spoilt, max_bad=.05).train)
    with pytest.raises(AudioReadError, match='.flac|clip'): who(make(spoilt, skip=False).train)

def test_clips_without_a_label_are_left_out(files, tmp_path, told):
    fs = list(files[:12])
    index = shard_folder(fs[0].parents[1], tmp_path/'s', files=fs, labels=np.array([None if i in (3,7) else str(i) for i in range(12)], object))
    assert len(sum(who(make(index, bs=2, valid_pct=.2, max_bad=1).train), []))==10 and 'has no label' in told('could not be read')[0]

@pytest.mark.parametrize('num_workers', [0,2])
def test_predictions_in_order(index, tiny, spoilt, num_workers):
    "Of all clips that can be read, as they lie in the shards, whichever worker read them"
    for ix,n in ((index,{25}), (spoilt,{21,22})):
        dls = make(ix, bs=2, num_workers=num_workers, valid_pct=.7, max_bad=1); learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.LazyLinear(36)), CrossEntropyLossFlat())
        want = [dls.vocab.o2i[l] for u,a,b in dls.valid_ds.pieces for o,l in members(u, a, b) if not isinstance(o, AudioReadError)]
        p,y = quiet(learn, learn.get_preds)
        assert len(p) in n and y.tolist()==[o for o in want if o in y]

@pytest.mark.skipif(not shutil.which('curl'), reason='webdataset fetches what lies behind a URL by curl')
def test_behind_a_url(index, tmp_path):
    "The same batches from a server as from the disk; a shard that it has not is named"
    served = shutil.copytree(index.parent, tmp_path/'served')
    quiet_handler = type('Handler', (SimpleHTTPRequestHandler,), dict(log_message=noop))
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(quiet_handler, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        far,here = make(f'http://127.0.0.1:{server.server_port}/shards.json'),make(index)
        assert all(torch.equal(a, b) for x,y in zip(far.train, here.train, strict=True) for a,b in zip(x, y))
        gone = served/far.train_ds.pieces[1][0].rsplit('/', 1)[1]; gone.unlink()
        with pytest.raises(AudioReadError, match=f'{gone.name}: clip 0: is not there'): list(far.train)
        server.shutdown()

def test_command(files, tmp_path, monkeypatch):
    "Stopped by hand, the same command goes on, to the same bytes; what is no sound is left out"
    import slicer_fastai.data.shards as S
    d = tmp_path/'set'; d.mkdir()
    for i,f in enumerate(files[:7]): shutil.copy(f, d/f'a.{i}{f.suffix}')
    (d/'text.wav').write_text('no sound')
    calls,real = [],S.ShardWriter.add
    def stop(*args):
        calls.append(args)
        if len(calls)==5: raise KeyboardInterrupt
        return real(*args)
    warnings.simplefilter('ignore')
    S.slicer_shard(d, tmp_path/'ref', clips=3)
    monkeypatch.setattr(S.ShardWriter, 'add', stop)
    for _ in range(2):
        try: S.shard_folder(d, tmp_path/'out', clips=3, n_workers=0)
        except KeyboardInterrupt: assert not (tmp_path/'out/shards.json').exists()
    content = lambda p: {f.name:f.read_bytes() for f in p.iterdir()}
    assert content(tmp_path/'out')==content(tmp_path/'ref') and len(calls)==5+8-3
    s = json.loads((tmp_path/'out/shards.json').read_text())
    assert s['clips']==7 and [o[0] for o in s['skipped']]==['text.wav'] and sum(count_clips(tmp_path/'out'/o['file']) for o in s['shards'])==7

def test_parts_are_shared_and_made_once(files, tmp_path, monkeypatch):
    "Two processes write all parts, each its own; of a list of names; a missing one is made again"
    from slicer_fastai.cli.commands import slicer_embed
    AudioEncoder('audiontt', d=32, width=8).save_pretrained(tmp_path/'enc')
    (tmp_path/'names.txt').write_text('\n'.join(map(str, files[:14])))
    run = lambda: slicer_embed([tmp_path/'names.txt'], tmp_path/'enc', 'clip', out=tmp_path/'v', parts=4)
    for rank,there in ('0',2),('1',4),('1',4):
        monkeypatch.setenv('RANK', rank); monkeypatch.setenv('WORLD_SIZE', '2')
        assert run().there[0]==there
    assert pd.read_parquet(tmp_path/'v').file.tolist()==[str(o) for o in files[:14]]

@pytest.mark.parametrize('name', ['pipe:touch made; cat {tar}', '{folder}/{tar}', '../{tar}', 'file://{folder}/{tar}', '', None, 3])
def test_an_index_names_files_beside_it_only(tmp_path, folder, monkeypatch, name):
    "No command, no address, no other folder: `pipe:` and URLs come from the user's own argument only"
    index = shard_folder(folder(6), tmp_path/'s', clips=3)
    d = json.loads(index.read_text())
    tar = d['shards'][0]['file']
    d['shards'][0]['file'] = name.format(tar=tar, folder=index.parent) if isinstance(name, str) else name
    index.write_text(json.dumps(d))
    monkeypatch.chdir(index.parent)
    for given in ('shards.json', index):
        with pytest.raises(DamagedFile, match='shards.json.*not the name of a file beside it'): find_shards(given)
    assert not (index.parent/'made').exists()

def test_a_link_out_of_the_folder_is_refused(tmp_path, folder):
    index = shard_folder(folder(6), tmp_path/'s', clips=3)
    tar = index.parent/json.loads(index.read_text())['shards'][0]['file']
    tar.rename(tmp_path/'elsewhere.tar')
    tar.symlink_to(tmp_path/'elsewhere.tar')
    with pytest.raises(DamagedFile, match='a link to another folder'): find_shards(index)

# --- one writer, checksums, bounds ---

def test_a_second_process_is_refused_by_name(files, tmp_path):
    from slicer_fastai.core.locks import locked, FolderBusy
    with locked(tmp_path/'s', 'sharding'):
        with pytest.raises(FolderBusy, match='has been sharding there since'): shard_folder(files[0].parents[1], tmp_path/'s', files=files[:6])

def test_a_flipped_bit_in_a_clip_is_found(index, tmp_path):
    "FLAC has checksums of its own that libsndfile does not look at; the index has one of each clip"
    d = shutil.copytree(index.parent, tmp_path/'s')
    dls = make(d)
    url = dls.train_ds.pieces[1][0]
    with tarfile.open(url) as t: at = [m.offset_data+m.size//2 for m in t if m.name.endswith('.flac')][3]
    b = bytearray(Path(url).read_bytes())
    b[at] ^= 1
    Path(url).write_bytes(b)
    n = dict(zip(*find_shards(d)[:2]))[url]
    got = [o for o,_ in dls.train_ds.members(url, 0, n)]
    assert [isinstance(o, AudioReadError) for o in got]==[i==3 for i in range(n)] and 'differs from its checksum' in str(got[3])
    assert len([o for o,_ in members(url, 0, n) if isinstance(o, AudioReadError)])==0          # whoever knows no checksums
    got = [o for o,_ in dls.train_ds.members(url, 2, 5)]
    assert [isinstance(o, AudioReadError) for o in got]==[False,True,False]                    # from the middle of a shard, too

def edit(index, **changes):
    "The index without its checksum, parts of it replaced"
    d = json.loads(index.read_text())
    d.pop('checksum', None)
    for k,v in changes.items():
        if k in d: d[k] = v
        else: d['shards'][0][k] = v
    index.write_text(json.dumps(d))

@pytest.fixture
def own(index, tmp_path): return shutil.copytree(index.parent, tmp_path/'own')/'shards.json'

def test_an_index_that_was_changed_is_noticed(own):
    own.write_text(own.read_text().replace('"clips": 36', '"clips": 35'))
    with pytest.raises(DamagedFile, match='differs from its checksum.*remove its "checksum"'): find_shards(own)

def test_shards_of_older_versions_open(own):
    "No checksums, no `bytes`, nothing set apart"
    d = json.loads(own.read_text())
    d = dict(format=1, clips=d['clips'], vocab=d['vocab'], skipped=[], sig=d['sig'], shards=[dict(file=o['file'], clips=o['clips']) for o in d['shards']])
    own.write_text(json.dumps(d, indent=1))
    assert len(make(own).train_ds)==32 and sum(map(len, who(make(own).train)))==32

@pytest.mark.parametrize('changes', [dict(shards=3), dict(shards=[3]), dict(shards=[{}]), dict(clips_='x'), dict(vocab=[1]), dict(crcs=[1]), dict(crcs='x'*8), dict(crcs=[-1]*8),
    dict(bytes=5), dict(bytes='x'), dict(bytes=2**60), dict(valid=3), dict(valid=[]), dict(file={}), dict(file=[])])
def test_an_index_that_says_something_else_is_named(own, changes):
    if 'clips_' in changes: changes = dict(shards=[dict(file='a.tar', clips='x')])
    edit(own, **changes)
    with pytest.raises(DamagedFile, match='shards.json'): find_shards(own)

@pytest.mark.parametrize('text', ['', '[]', 'null', '{"shards":null,"vocab":null}', '['*100_000, '{"shards":{"a":1},"vocab":null}'])
def test_an_index_that_is_none_is_named(own, text):
    own.write_text(text)
    with pytest.raises(DamagedFile, match='shards.json'): find_shards(own)

def test_more_clips_than_fit_are_refused(own):
    d = json.loads(own.read_text())
    d['shards'][0]['clips'] = 2**30
    d['shards'][0].pop('crcs')
    d.pop('checksum')
    own.write_text(json.dumps(d))
    with pytest.raises(DamagedFile, match='do not fit into'): find_shards(own)

def hostile_tars():
    "Name and content of files that claim more than they hold"
    import bz2, gzip
    huge = tarfile.TarInfo('000000000/a.wav')
    huge.size = 2**60
    other = tarfile.TarInfo('readme.txt')                       # not wanted: skipping over it took for ever
    other.size = 2**60
    pax = tarfile.TarInfo('x')
    pax.size,pax.type = 2**60,tarfile.XHDTYPE
    member = tarfile.TarInfo('000000000/a.wav')
    member.size = 2**28
    yield 'huge',huge.tobuf(tarfile.GNU_FORMAT)+bytes(1024)
    yield 'other',other.tobuf(tarfile.GNU_FORMAT)+bytes(1024)
    yield 'pax',pax.tobuf(tarfile.GNU_FORMAT)+bytes(1024)
    yield 'gzip',gzip.compress(member.tobuf()+bytes(2**28), 1)
    yield 'bzip',bz2.compress(member.tobuf()+bytes(2**24))

@pytest.mark.parametrize('name,content', hostile_tars(), ids=lambda o: o if isinstance(o, str) else '')
def test_a_header_that_claims_too_much_is_refused_at_once(tmp_path, name, content):
    "By name, within a second and 200 MB"
    import tracemalloc
    fn = tmp_path/f'{name}.tar'
    fn.write_bytes(content)
    del content
    tracemalloc.start()
    start = time.process_time()
    got = list(members(str(fn), 0, 2))
    with pytest.raises(AudioReadError, match=f'{name}.tar'): count_clips(fn)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(got)==2 and all(isinstance(o, AudioReadError) and f'{name}.tar' in str(o) for o,_ in got)
    assert time.process_time()-start<1 and peak<2e8

@pytest.mark.parametrize('make_it', [lambda f: os.mkfifo(f), lambda f: f.mkdir(), lambda f: f.symlink_to('/dev/zero'), lambda f: f.symlink_to(f)])
def test_what_is_no_file_is_no_shard(tmp_path, make_it):
    make_it(tmp_path/'a.tar')
    (clip,label), = members(str(tmp_path/'a.tar'), 0, 1)
    assert isinstance(clip, AudioReadError) and 'a.tar' in str(clip) and label is None

def test_a_label_that_is_no_text(tmp_path, files):
    with tarfile.open(tmp_path/'a.tar', 'w') as t:
        t.add(files[0], f'0{files[0].suffix}')
        info = tarfile.TarInfo('0.cls')
        info.size = 3
        t.addfile(info, io.BytesIO(b'\xff\xfea'))
    (clip,label), = members(str(tmp_path/'a.tar'), 0, 1)
    assert read_window(clip).size and label.endswith('a')

# --- long recordings ---

@pytest.fixture
def recordings(tmp_path):
    "Six recordings of a constant each: a sample says where it comes from"
    import soundfile as sf
    d = tmp_path/'field'; d.mkdir()
    for i,(seconds,kind) in enumerate([(3,'PCM_16'), (31,'PCM_16'), (95,'PCM_24'), (62.5,'FLOAT'), (34,'PCM_U8'), (45,'PCM_16')]):
        sf.write(d/f'{i}.wav', np.full((int(seconds*8000), 1+i%2), (i+1)/(16 if i!=3 else 1)), 8000, subtype=kind)
    return d

def test_long_recordings_become_segments(recordings, tmp_path, capsys):
    "Without loss, mixed, those of a recording on one side"
    index = shard_folder(recordings, tmp_path/'s', clips=6, n_workers=1)
    assert '5 of 6 recordings' in capsys.readouterr().out
    dls = SlicerDataLoaders.from_webdataset(index, bs=4, num_workers=0, device='cpu', sr=8000, f_max=3900.)
    lost,seen = [],[]
    for ds in (dls.train_ds, dls.valid_ds):
        clips = [clip for piece in ds.pieces for clip,_ in ds.members(*piece)]
        waves = [read_window(clip, None, sr=8000) for clip in clips]
        which = [int(str(c).rsplit('/', 1)[1].split('.')[0].split('_')[0]) for c in clips]
        for k,w in zip(which, waves): close(w, np.full(len(w), (k+1)/(16 if k!=3 else 1), np.float32), 1e-6 if k!=4 else 1e-2)
        seen.append(set(which))
        lost += [(k,len(w)) for k,w in zip(which, waves)]
    assert not seen[0]&seen[1] and seen[0]|seen[1]==set(range(6)) and seen[1]
    for k,seconds in enumerate((3, 31, 95, 62.5, 34, 45)): assert sum(n for j,n in lost if j==k)==seconds*8000
    assert any(len({str(c).rsplit('/', 1)[1].split('_')[0] for c,_ in members(u, a, b)})>1 for u,a,b in dls.train_ds.pieces)
    assert dls.train.one_batch()[0].shape[:2]==(4,2)
    x = dls.train.new(after_batch=None).one_batch()[0].as_subclass(Tensor)
    assert x.shape[1]==2 and all(len(row.unique())==1 for row in x)                          # both windows from one segment

def test_files_stay_as_they_are_where_asked(recordings, tmp_path):
    for kw in (dict(segment=None), dict(labels=list('aabbcc'))):
        shutil.rmtree(tmp_path/'s', ignore_errors=True)
        index = shard_folder(recordings, tmp_path/'s', **kw, n_workers=1)
        clips = [clip for u,n in zip(*find_shards(index)[:2]) for clip,_ in members(u, 0, n)]
        assert sorted(bytes(c.getbuffer()) for c in clips)==sorted(f.read_bytes() for f in recordings.iterdir())
