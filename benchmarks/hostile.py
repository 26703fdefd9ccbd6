"""What becomes of damaged and malicious files? Every kind of file that the library reads is mutated, read and used, and the outcomes are counted.

    python -m benchmarks.hostile                        # 200 mutations of each kind, seeded; hostile.csv keeps a row each
    python -m benchmarks.hostile --only 'shards state' --n 50 --seed 1

right: read, and what came is finite. named: an error that names the file or its folder. raw: any other error. code: a command was run, or a file outside the
folder was opened (but by a table: naming recordings anywhere is what it is for). slow: more than 5 s of processor time, or no end within 20 s. large: more than 500 MB above the start. Each file is read in a process of its own. The last four should be 0.
"""
import csv, gzip, io, json, os, pickle, random, resource, shutil, struct, sys, tarfile, tempfile, time, traceback, warnings
from collections import Counter
from pathlib import Path
from zlib import crc32
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.audio.synth import synth_sounds

secret = Path(tempfile.gettempdir())/'hostile_secret.txt'        # nothing that is read here should lead to this file
hostile_values = [None, [], {}, '', 0, -1, -2**63, 2**60, 1e308, math.nan, True, 'x'*200_000, ['x']*1000, [[[[[[]]]]]], {'a':{'b':1}}, '\x1b[31mred', 'a\0b',
    '../'*8+str(secret), str(secret), f'file://{secret}', f'pipe:id > {secret}.made', f'pipe:cat {secret}', 'http://127.0.0.1:9/x', 'hf-hub:x/y', '=1+1', '/dev/zero']

# --- mutations ---

def nodes(o, path=()):
    "All places in a JSON value"
    yield path
    for k,v in (o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()): yield from nodes(v, (*path,k))

def mutate_json(o, rng):
    "A JSON value, one or two places of it replaced, removed or doubled"
    o = deepcopy(o)
    for _ in range(rng.choice([1,1,2])):
        path = rng.choice(list(nodes(o)))
        if not path: continue
        *way,last = path
        parent = o
        for k in way: parent = parent[k]
        what = rng.choice(['set','set','set','remove','double'])
        if what=='set': parent[last] = rng.choice(hostile_values)
        elif what=='remove': del parent[last]
        elif isinstance(parent, list): parent.append(parent[last])
        else: parent[f'{last}_'] = parent[last]
    return o

def cut(b, rng): return b[:rng.randrange(len(b)+1)]
def flip(b, rng):
    b = bytearray(b)
    for _ in range(rng.choice([1,4,50])): b[rng.randrange(len(b))] ^= 1<<rng.randrange(8)
    return bytes(b)
def overwrite(b, rng):
    i,n = rng.randrange(min(len(b), 200)),rng.choice([1,4,8,64])
    return b[:i]+rng.choice([rng.randbytes(n), bytes(n), b'\xff'*n, b'\x7f'+b'\xff'*(n-1)])+b[i+n:]
def insert(b, rng):
    i = rng.randrange(len(b)+1)
    return b[:i]+rng.randbytes(rng.choice([1,100,10_000]))+b[i:]
def replace_all(b, rng): return rng.choice([b'', bytes(1000), rng.randbytes(1000), b'{}', b'[]', b'null', gzip.compress(bytes(2**26)), bomb(), pickled()])

def pickled():
    "A pickle that runs a command when it is loaded"
    class Run:
        def __reduce__(self): return os.system, (f'touch {secret}.made',)
    return pickle.dumps(Run())

def bomb():
    "A tar header that claims 2^60 bytes"
    t = tarfile.TarInfo('000000000/a.wav')
    t.size = 2**60
    return t.tobuf(tarfile.GNU_FORMAT)+bytes(1024)

def replace_by_link(fn, rng):
    "In the place of the file: a link to a device, to a secret or to itself, a pipe, a folder"
    fn.unlink()
    what = rng.choice(['zero','secret','self','pipe','folder'])
    if what=='zero': fn.symlink_to('/dev/zero')
    elif what=='secret': fn.symlink_to(secret)
    elif what=='self': fn.symlink_to(fn)
    elif what=='pipe': os.mkfifo(fn)
    else: fn.mkdir()
    return f'{what} in place of {fn.name}'

def mutate_bytes(fn, rng):
    "Change a file; what was done"
    if rng.random()<.08: return replace_by_link(fn, rng)
    f = rng.choice([cut, flip, flip, overwrite, overwrite, insert, replace_all])
    fn.write_bytes(f(fn.read_bytes(), rng))
    return f'{f.__name__} {fn.name}'

# --- kinds of file: make a good one, mutate it, use it ---

class Kind:
    "Files of one kind: `make` writes good ones into a folder, `mutate` damages them, `use` reads them and returns numbers"
    pattern = '*'
    names_any_file = False
    def files(self, d): return [o for o in sorted(d.rglob(self.pattern)) if o.is_file()]
    def mutate(self, d, rng): return mutate_bytes(rng.choice(self.files(d)), rng)

def mutate_json_file(fn, rng):
    if rng.random()<.25: return mutate_bytes(fn, rng)
    fn.write_text(json.dumps(mutate_json(json.loads(fn.read_text()), rng)))
    return f'JSON of {fn.name}'

sounds = None                                                   # made once, by `main`
def small_encoder(): return AudioEncoder('audiontt', d=16, width=4)
def some_files(n=12): return get_audio_files(sounds)[:n]
noise = np.random.default_rng(0).normal(size=16000).astype(np.float32)*.1

class Config(Kind):
    def make(self, d): small_encoder().save_pretrained(d)
    def mutate(self, d, rng): return mutate_json_file(d/'config.json', rng)
    def use(self, d): return AudioEncoder.from_pretrained(d).embed(noise, sr=16000)

class Weights(Config):
    def mutate(self, d, rng): return mutate_bytes(d/'model.safetensors', rng)

class Unsigned(Config):
    "Weights whose config names no checksum, so that the damage reaches the reader of safetensors"
    def make(self, d):
        super().make(d)
        cfg = json.loads((d/'config.json').read_text())
        del cfg['checksum']
        (d/'config.json').write_text(json.dumps(cfg))
    def mutate(self, d, rng):
        fn = d/'model.safetensors'
        if rng.random()<.5: return mutate_bytes(fn, rng)
        b = fn.read_bytes()
        n = struct.unpack('<Q', b[:8])[0]
        head = json.dumps(mutate_json(json.loads(b[8:8+n]), rng)).encode()
        fn.write_bytes(struct.pack('<Q', len(head))+head+b[8+n:])
        return 'header of model.safetensors'

class Pack(Kind):
    def make(self, d): pack_audio(sounds, d, files=some_files(), labels=parent_label)
    def mutate(self, d, rng):
        if rng.random()<.4: return mutate_bytes(rng.choice(self.files(d)), rng)
        with np.load(d/'index.npz') as z: arrays = {k:z[k] for k in z.files}
        k = rng.choice(list(arrays))
        if k=='meta': arrays[k] = np.frombuffer(json.dumps(mutate_json(json.loads(arrays[k].tobytes()), rng)).encode(), np.uint8)
        else:
            a = arrays[k].copy()
            change = rng.choice(['value','shape','type','gone'])
            if change=='value': a[rng.randrange(len(a))] = min(rng.choice([0, 2**31-1, 1]), np.iinfo(a.dtype).max if a.dtype.kind in 'iu' else 1e308)
            elif change=='shape': a = a[:rng.randrange(len(a))]
            elif change=='type': a = a.astype('<f8')
            arrays[k] = a
            if change=='gone': del arrays[k]
        np.savez(d/'index.npz', **arrays)
        return f'{k} of index.npz'
    def use(self, d):
        dls = SlicerDataLoaders.from_pack(d, bs=4, num_workers=0, device='cpu', verify=True)
        return dls.train.one_batch()[0]

class Shards(Kind):
    def make(self, d): shard_folder(sounds, d, files=some_files(), labels=parent_label, clips=6)
    def mutate(self, d, rng):
        if rng.random()<.4: return mutate_bytes(rng.choice(sorted(d.glob('*.tar'))), rng)
        index = d/'shards.json'
        if rng.random()<.2: return mutate_json_file(index, rng)
        content = json.loads(index.read_text())                  # without its checksum, so that the damage reaches the reader
        del content['checksum']
        index.write_text(json.dumps(content))
        return mutate_json_file(index, rng)+', unsigned'
    def use(self, d):
        old = os.getcwd()
        os.chdir(d)                                              # by its bare name
        try: dls = SlicerDataLoaders.from_webdataset('shards.json', bs=4, num_workers=0, device='cpu')
        finally: os.chdir(old)
        os.chdir(d)
        return first(dls.train)[0]

class Index(Kind):
    def make(self, d): small_encoder().index(some_files(), labels=parent_label).save(d)
    def mutate(self, d, rng):
        if rng.random()<.7: return mutate_json_file(d/'index.json', rng)
        return mutate_bytes(rng.choice(self.files(d)), rng)
    def use(self, d): return SoundIndex.load(d).search(noise, sr=16000).score.to_numpy()

class State(Kind):
    pattern = 'state-*.safetensors'
    def learner(self, d):
        dls = SlicerDataLoaders.from_lists(d, some_files(10), bs=4, num_workers=0, device='cpu')
        return SlicerLearner(dls, 'audiontt', arch_kwargs=dict(d=8, width=4), queue_size=8, hidden=8, seed=0)
    def fit(self, learn, d):
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-3, cbs=Resume(d/'states'))
    def make(self, d):
        learn = self.learner(d)
        class Stop(Callback):
            order = 99
            def after_batch(self):
                if self.epoch==1: raise CancelFitException()
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-3, cbs=[Resume(d/'states'), Stop()])
        for f in self.files(d)[:-1]: f.unlink()
    def mutate(self, d, rng):
        fn = self.files(d)[-1]
        if rng.random()<.3: return mutate_bytes(fn, rng)
        b = fn.read_bytes()
        n = struct.unpack('<Q', b[:8])[0]
        head = json.loads(b[8:8+n])
        if rng.random()<.7: head['__metadata__']['state'] = json.dumps(mutate_json(json.loads(head['__metadata__']['state']), rng))
        else: head = mutate_json(head, rng)
        head = json.dumps(head).encode()
        b = struct.pack('<Q', len(head))+head+b[8+n:]
        fn.unlink()
        fn.with_name(f'state-000009-{crc32(b):08x}.safetensors').write_bytes(b)                    # signed, as its writer would
        return 'signed state'
    def use(self, d):
        learn = self.learner(d)
        before = {k:learn.__dict__[k] for k in ('path','model_dir','lr','wd','moms') if k in learn.__dict__}
        self.fit(learn, d)
        assert before=={k:learn.__dict__[k] for k in before}, 'a state has changed settings of the learner'
        return tensor([float(o) for o in learn.recorder.losses if np.isfinite(o)] or [0.])

class Table(Kind):
    names_any_file = True
    def make(self, d):
        fs = some_files()
        pd.DataFrame(dict(file=[f'../sounds/{f.relative_to(sounds)}' for f in fs], label=[f.parent.name for f in fs])).to_csv(d/'labels.csv', index=False)
    def mutate(self, d, rng):
        fn = d/'labels.csv'
        if rng.random()<.3: return mutate_bytes(fn, rng)
        rows = list(csv.reader(fn.open()))
        for _ in range(rng.choice([1,3])):
            row = rng.choice(rows)
            if row: row[rng.randrange(len(row))] = str(rng.choice(hostile_values))
        if rng.random()<.2: rows.pop(0)
        if rng.random()<.2: rows = rows[:1]
        with fn.open('w', encoding=rng.choice(['utf8','utf-16','latin-1']), errors='replace', newline='') as f: csv.writer(f, delimiter=rng.choice(',;\t')).writerows(rows)
        return 'cells of labels.csv'
    def use(self, d): return SlicerDataLoaders.from_csv(d, bs=4, num_workers=0, device='cpu', label_col=1, valid_pct=.3).train.one_batch()[0]

def by_av(fn, codec, form=None):
    "Encode the noise by PyAV"
    import av
    with av.open(str(fn), 'w', format=form) as c:
        s = c.add_stream(codec, rate=16000, layout='mono')
        s.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray((noise*32767).astype(np.int16)[None], format='s16', layout='mono')
        frame.sample_rate = 16000
        resampler = av.AudioResampler(format=s.format, layout='mono', rate=16000, frame_size=s.frame_size or 1024)
        for o in (*resampler.resample(frame), *resampler.resample(None)): c.mux(s.encode(o))
        c.mux(s.encode(None))

class Audio(Kind):
    endings = 'wav flac ogg mp3 aiff au'.split()
    coded = [('m4a','aac',None), ('aac','aac','adts'), ('wma','wmav2','asf'), ('webm','libopus',None), ('mp2','mp2','mp2')]
    def make(self, d):
        import soundfile as sf
        from slicer_fastai.audio.formats import mp3_sizes
        for i,e in enumerate(self.endings): sf.write(d/f'a{i}.{e}', noise, 16000)
        for i,(e,codec,form) in enumerate(self.coded): by_av(d/f'b{i}.{e}', codec, form)
        mp3,ogg,flac = [(d/f'a{i}.{e}').read_bytes() for i,e in ((3,'mp3'), (2,'ogg'), (1,'flac'))]
        (d/'joined.mp3').write_bytes(mp3+mp3)
        (d/'untagged.mp3').write_bytes(2*mp3[mp3_sizes[int.from_bytes(mp3[1:3], 'big')]:])
        (d/'chained.ogg').write_bytes(ogg+ogg)
        aiff = bytearray((d/'a4.aiff').read_bytes())
        i = aiff.find(b'SSND')
        aiff[i+4:i+8] = (8).to_bytes(4, 'big')
        (d/'switched_off.aiff').write_bytes(aiff)
        (d/'streamed.flac').write_bytes(flac[:21]+bytes([flac[21]&0xf0])+bytes(4)+flac[26:])
        sf.write(d/'gsm.wav', noise, 8000, subtype='GSM610')
    def mutate(self, d, rng):
        fn = rng.choice(self.files(d))
        for o in self.files(d):
            if o!=fn: o.unlink()
        if rng.random()<.3:
            b = bytearray(fn.read_bytes())
            i = rng.randrange(4, 60)
            b[i:i+4] = rng.choice([b'\xff\xff\xff\x7f', b'\xff\xff\xff\xff', bytes(4)])
            fn.write_bytes(bytes(b))
            return f'a length in {fn.name}'
        return mutate_bytes(fn, rng)
    def use(self, d):
        fn = next(d.iterdir())
        verify_audio([fn], whole=True)
        return small_encoder().embed(fn)

kinds = dict(config=Config, weights=Weights, unsigned=Unsigned, pack=Pack, shards=Shards, index=Index, state=State, table=Table, audio=Audio)

# --- one trial, in a process of its own ---

def watch(report, kind):
    "Note commands that are run and the secret being opened"
    def hook(event, args):
        if event in ('subprocess.Popen','os.system','os.exec','os.posix_spawn','os.spawn'): report['code'] = f'{event} {str(args)[:200]}'
        if event=='open' and not kind.names_any_file and str(secret) in str(args[0]): report['code'] = f'opened {args[0]}'
    sys.addaudithook(hook)

def status(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])/1024

def trial(kind, d, out):
    "Use the files in `d`; the outcome goes into the file `out`"
    warnings.simplefilter('ignore')
    report,at,start = {},time.process_time(),status()
    watch(report, kind)
    try:
        res = kind.use(d)
        res = res if isinstance(res, Tensor) else torch.as_tensor(np.asarray(res, dtype=float))
        report.update(outcome='right' if torch.isfinite(res.as_subclass(Tensor).float()).all() else 'raw', error='' if torch.isfinite(res.as_subclass(Tensor).float()).all() else 'not finite')
    except BaseException as e:
        names = {o.name for o in d.rglob('*')}|{d.name}
        named = isinstance(e, (OSError, ValueError, AudioReadError, DamagedFile)) and any(n in str(e) for n in names)
        where = traceback.extract_tb(e.__traceback__)[-1]
        report.update(outcome='named' if named else 'raw', error=f'{type(e).__name__}: {str(e)[:300]} ({Path(where.filename).name}:{where.lineno})')
    if 'code' in report: report.update(outcome='code', error=report['code'])
    report.update(seconds=time.process_time()-at, mb=status()-start)
    out.write_text(json.dumps(report, default=str))

def run(kind, d, out, limit=20):
    "The outcome of one trial, whatever it does"
    pid,at = os.fork(),time.monotonic()
    if pid==0:
        devnull = os.open(os.devnull, os.O_RDWR)
        for fd in (0,1,2): os.dup2(devnull, fd)
        resource.setrlimit(resource.RLIMIT_DATA, (8*2**30,)*2)
        try: trial(kind, d, out)
        finally: os._exit(0)
    while True:
        done,code,used = os.wait4(pid, os.WNOHANG)
        if done: break
        if time.monotonic()-at>limit:
            os.kill(pid, 9)
            os.wait4(pid, 0)
            return dict(outcome='slow', error=f'ended after {limit} s', seconds=limit, mb=math.nan)
        time.sleep(.002)
    if not out.exists(): return dict(outcome='raw', error=f'the process died ({code})', seconds=time.monotonic()-at, mb=used.ru_maxrss/1024)
    report = json.loads(out.read_text())
    if report['outcome']!='code':
        if report['seconds']>5: report['outcome'] = 'slow'
        if report['mb']>500: report['outcome'] = 'large'
    return report

@call_parse
def main(
    n:int=200,                # mutations of each kind
    seed:int=0,               # of the mutations
    only:str='',              # only these, with spaces between: config weights unsigned pack shards index state table audio
    out:Path=Path('hostile.csv'), # a row each
):
    "Mutate, read, count"
    global sounds
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    top = Path(tempfile.mkdtemp())
    secret.write_text('secret')
    sounds = synth_sounds(n=2, path=top/'sounds')
    rows = []
    for name in only.split() or kinds:
        kind,good = kinds[name](),top/f'good_{name}'
        if not os.fork():
            good.mkdir()
            kind.make(good)
            os._exit(0)
        os.wait()
        for i in range(n):
            rng,d,res = random.Random(f'{seed} {name} {i}'),top/f'{name}_{i}',top/'report.json'
            shutil.copytree(good, d)
            what = kind.mutate(d, rng)
            res.unlink(missing_ok=True)
            rows.append(dict(kind=name, i=i, what=what, **{k:v for k,v in run(kind, d, res).items() if k!='code'}))
            made = Path(f'{secret}.made')
            if made.exists():
                made.unlink()
                rows[-1]['outcome'] = 'code'
            shutil.rmtree(d, ignore_errors=True)
        print(name, dict(Counter(r['outcome'] for r in rows if r['kind']==name)), flush=True)
        pd.DataFrame(rows).to_csv(out, index=False)
    shutil.rmtree(top)
    table = pd.DataFrame(rows).groupby(['kind','outcome']).size().unstack(fill_value=0)
    print(table.reindex(columns='right named raw code slow large'.split(), fill_value=0).to_string())
