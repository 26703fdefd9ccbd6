"What trials with faults have shown: killed while writing, full disks, flipped bits, hostile files and configs, mixed precision"
from conftest import *
import errno, signal, socket, soundfile as sf, subprocess
from torch.utils._python_dispatch import TorchDispatchMode
from slicer_fastai.core.files import *
from slicer_fastai.train.resume import *

# --- files that are written over older ones ---

@contextmanager
def full_disk(n=2000):
    "No file may grow beyond `n` bytes"
    resource = pytest.importorskip('resource')
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, limit[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limit)

def killed(f):
    "Run `f` in a child that is killed (SIGKILL) when its first file is written but not yet renamed"
    pid = os.fork()
    if not pid:
        try: os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL); f()
        finally: os._exit(0)
    assert os.waitpid(pid, 0)[1]==signal.SIGKILL

@pytest.fixture(scope='module')
def learn(files, tmp_path_factory):
    "One learner that has seen one epoch"
    dls = SlicerDataLoaders.from_lists(tmp_path_factory.mktemp('l'), files[::3], bs=8, num_workers=0, device='cpu', windows=1)
    learn = SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw)
    quiet(learn, learn.fit, 1)
    return learn

def best(learn):
    "What SaveModelCallback does at a better epoch"
    SaveModelCallback.__dict__['_save'](SimpleNamespace(learn=learn, with_opt=False), 'best')

writers = dict(save=('models/w.pth', lambda l: l.save('w')), export=('w.pkl', lambda l: l.export('w.pkl')), best=('models/best.pth', best),
               map=('map.html', lambda l: l.map_html(l.path/'map.html', files=l.dls.train_ds.items[:6], method='pca', labels=list('ababab'))),
               weights=('enc/model.safetensors', lambda l: l.encoder.save_pretrained(l.path/'enc')),
               page=('r.html', lambda l: write_whole(l.path/'r.html', '<p>'*2000)))     # what report writes with

@pytest.mark.parametrize('name', writers)
def test_killed_while_writing(learn, name):
    fn,write = learn.path/writers[name][0],writers[name][1]
    write(learn); old = fn.read_bytes()
    killed(lambda: write(learn))
    assert fn.read_bytes()==old
    for f in fn.parent.glob('*.tmp'): f.unlink()

@pytest.mark.parametrize('name', writers)
def test_full_disk_while_writing(learn, name):
    fn,write = learn.path/writers[name][0],writers[name][1]
    write(learn); old = fn.read_bytes()
    with full_disk(), pytest.raises(OSError, match='MB are needed.*MB are free') as e: write(learn)
    assert fn.parent.name in str(e.value) and fn.read_bytes()==old and not list(fn.parent.glob('*.tmp'))
    assert learn.dls.train_ds and learn.opt is not None

@pytest.mark.parametrize('write', [
    lambda d: shard_folder(d, d, force=True), lambda d: pack_audio(d, d, force=True), lambda d: AudioEncoder(**encoder_kw).save_pretrained(d),
    lambda d: AudioEncoder(**encoder_kw).index(d).save(d)], ids=['shards','pack','encoder','index'])
def test_files_of_others_stay(folder, write):
    "Written into a folder with recordings, shards and vectors of one's own, twice: what is of the first time goes, nothing else"
    d = folder(3); os.rename(d/'00.wav', d/'audio-001.wav')
    for o in ('shard-000000.tar','vectors-2024.parquet','audio-1.i16.tmp','model-00001-of-00002.safetensors'): (d/o).write_text('mine')
    before = set(d.iterdir()); write(d); one = set(d.iterdir())
    sf.write(d/'01.wav', np.ones(20000)*.25, 16000); write(d); two = set(d.iterdir())
    assert before<=one and before<=two and len(one)==len(two)

@pytest.mark.parametrize('at', [1,2,3])
def test_encoder_is_the_old_or_the_new(learn, tmp_path, at):
    "Killed at any of the three renames: the folder loads, all of it old or all of it new"
    d = AudioEncoder('audiontt', d=16, width=4).save_pretrained(tmp_path)
    pid = os.fork()
    if not pid:
        n,real = [0],os.replace
        def replace(*a):
            n[0] += 1
            if n[0]>at: os.kill(os.getpid(), signal.SIGKILL)
            real(*a)
        os.replace = replace
        try: learn.encoder.save_pretrained(d)
        finally: os._exit(0)
    os.waitpid(pid, 0)
    assert AudioEncoder.from_pretrained(d).kwargs==(dict(d=16, width=4) if at<3 else encoder_kw)

def test_modes_are_umasks(learn, tmp_path):
    d = learn.encoder.save_pretrained(tmp_path/'e'); (tmp_path/'x').write_text('')
    assert {f.stat().st_mode for f in d.iterdir()}=={(tmp_path/'x').stat().st_mode}

def flip(fn, seed):
    b = bytearray(fn.read_bytes()); i = np.random.default_rng(seed).integers(len(b)//4, len(b)*3//4); b[i] ^= 1<<seed%8; fn.write_bytes(b)

def test_flipped_bits_are_named(learn, tmp_path):
    d = learn.encoder.save_pretrained(tmp_path/'e')
    States(tmp_path/'s').save(dict(model=learn.model.state_dict()))
    ways = [(d/'model.safetensors', lambda: AudioEncoder.from_pretrained(d)), (learn.save('f'), lambda: learn.load('f')),
            (tmp_path/'s', lambda: States(tmp_path/'s').load())]
    for fn,load in ways:
        f = fn if fn.is_file() else first(fn.iterdir()); good = f.read_bytes()
        for seed in range(5):
            f.write_bytes(good); flip(f, seed)
            with warnings.catch_warnings(): warnings.simplefilter('ignore'); pytest.raises(DamagedFile, load)

def test_state_on_a_full_disk(learn, tmp_path):
    "The older state stays, and is the one that is found"
    states = States(tmp_path); states.save(dict(i=0))
    with full_disk(), pytest.raises(OSError, match='MB are needed'): states.save(dict(model=learn.model.state_dict()))
    assert states.load()==dict(i=0) and len(list(tmp_path.iterdir()))==1

# --- collections ---

def test_links_to_itself(folder):
    "Each real file once, however the links run"
    d = folder(4)
    for n in ('a','b'): (d/n).symlink_to(d, target_is_directory=True)
    (d/'again.wav').symlink_to(d/'00.wav'); os.link(d/'01.wav', d/'hard.wav')
    assert [f.name for f in get_audio_files(d)]==['00.wav','01.wav','02.wav','03.wav']

def test_pipes_and_devices(folder):
    d = folder(4); os.mkfifo(d/'pipe.wav'); (d/'dev.wav').symlink_to('/dev/zero')
    with pytest.warns(UserWarning, match='no regular files.*wav'): assert len(get_audio_files(d))==4
    assert set(verify_audio([d/'pipe.wav',d/'dev.wav']).reason)=={'is no regular file'}

def test_names_that_are_not_utf8(folder, tmp_path):
    d = folder(4); fn = Path(os.fsdecode(os.fsencode(d)+b'/caf\xe9.wav')); (d/'00.wav').rename(fn)
    assert fn in get_audio_files(d) and len(read_window(fn, .1)) and verify_audio(d).empty
    fn.write_bytes(b'no sound')
    v = verify_audio(d); str(v).encode(); assert r'caf\xe9' in v.file[0]
    with pytest.warns(UserWarning, match=r'caf.xe9'): assert len(pack_audio(d, tmp_path/'p'))==3

def test_samples_that_no_power_fits(folder):
    d = folder(4); x = np.zeros(19200, np.float32); x[9000] = 1e30
    sf.write(d/'00.wav', x, 16000, subtype='FLOAT')
    with pytest.raises(AudioReadError, match='00.wav.*beyond 1e9'): read_window(d/'00.wav', None)
    x[9000] = np.nan; sf.write(d/'00.wav', x, 16000, subtype='FLOAT')
    assert verify_audio(d).empty and 'NaN' in verify_audio(d, whole=True).reason[0] and 'NaN' in verify_audio.__doc__

def test_workers_error_says_it_first(folder):
    d = folder(40)
    for f in list(d.iterdir())[::2]: f.write_bytes(b'no sound')
    dls = SlicerDataLoaders.from_folder(d, bs=4, num_workers=2, device='cpu')
    with warnings.catch_warnings(), pytest.raises(AudioReadError) as e: warnings.simplefilter('ignore'); list(dls.train)
    assert str(e.value).splitlines()[0].startswith('too many unreadable files')

def test_same_windows_whatever_the_workers(files, tmp_path):
    def batches(n):
        set_seed(3)
        dls = SlicerDataLoaders.from_lists(tmp_path, files[:24], bs=4, num_workers=n, device='cpu')
        return [b[0] for _ in range(2) for b in dls.train]
    a,b = batches(0),batches(2)
    assert len(a)==len(b) and all(torch.equal(*o) for o in zip(a, b)) and not torch.equal(a[0], a[len(a)//2])

def test_labels_are_escaped():
    assert '<b>' not in players([AudioTensor(torch.zeros(1,100))], ['<b>x']).data

# --- configs ---

bad = {'arch':'hf-hub:someone/model', 'unknown':1, 'audio':None, 'pool':'sum', 'layers':['fc9'], 'in_chans':10**9, 'kwargs.d':10**9, 'kwargs.width':100_000,
       'kwargs.pretrained':True, 'kwargs.pretrained_cfg':{'url':'http://x'}, 'kwargs.checkpoint_path':'x.pth', 'kwargs.d ':8, 'front':None,
       'front.duration':1e9, 'front.n_mels':-3, 'front.kind':'none', 'kwargs':[1]}

class Largest(TorchDispatchMode):
    "Numbers in the largest tensor that is made inside"
    numbers = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res = func(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(o.numel() for o in L(res) if isinstance(o, Tensor) and not o.is_meta)])
        return res

@pytest.mark.parametrize('key', bad, ids=str)
def test_hostile_config(learn, tmp_path, key, monkeypatch):
    "One error that names key and value; no tensor above a million numbers is made, nothing is fetched"
    monkeypatch.setattr(socket.socket, 'connect', lambda *args: pytest.fail('tried to fetch something'))
    fn = learn.encoder.save_pretrained(tmp_path)/'config.json'
    cfg = json.loads(fn.read_text()); o = cfg; *path,last = key.split('.')
    for k in path: o = o[k]
    o[last] = bad[key]; fn.write_text(json.dumps(cfg))
    with Largest() as made, pytest.raises(ConfigError, match='config.json') as e: AudioEncoder.from_pretrained(tmp_path)
    assert last.strip() in str(e.value) and made.numbers<1e6

@pytest.mark.parametrize('text', ['', '[]', '{"pool": "mean"}'])
def test_config_that_is_none(learn, tmp_path, text):
    (learn.encoder.save_pretrained(tmp_path)/'config.json').write_text(text)
    with pytest.raises(ConfigError): AudioEncoder.from_pretrained(tmp_path)

# --- runs ---

def test_start_epoch_is_drawn(tiny):
    learn = tiny(); quiet(learn, learn.fit_one_cycle, 3, start_epoch=1)
    assert len(learn.plot_losses())==2; plt.close('all')

def test_killed_runs_come_to_the_same_end():
    "SIGKILL in training, in validation, while a state is written"
    root = Path(__file__).parents[1]
    p = subprocess.run([sys.executable, '-m', 'benchmarks.killed', '--n', '5'], cwd=root, capture_output=True, text=True,
                       env={**os.environ, 'PYTHONPATH':str(root), 'OMP_NUM_THREADS':'1'})
    assert p.returncode==0 and '5 of 5' in p.stdout, p.stdout[-3000:]+p.stderr[-2000:]

# --- mixed precision ---

@pytest.fixture
def cpu_amp(monkeypatch):
    "fastai's callback asks for CUDA by name: here it gets the processor"
    from fastai.callback import fp16
    monkeypatch.setattr(fp16, 'autocast', lambda d, dtype: torch.autocast('cpu', dtype=dtype))
    monkeypatch.setattr(fp16, 'GradScaler', lambda d, **kw: torch.amp.GradScaler('cpu', **kw))

def test_bf16_keeps_teacher_and_queue_in_float32(tiny):
    learn = tiny().to_bf16(); seen = []
    learn.add_cb(Spy(after_pred=lambda l: seen.append(torch.is_autocast_enabled('cpu'))))
    old = state(learn.model); quiet(learn, learn.fit, 1)
    assert seen and all(seen) and losses(learn).isfinite().all()
    assert {v.dtype for v in state(learn.model).values() if v.is_floating_point()}=={torch.float32}
    assert any(k.startswith('teacher') for k in differ(old, state(learn.model)))

def test_interrupted_bf16_leaves_float32(tiny):
    learn = tiny().to_bf16()
    def stop(l): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): quiet(learn, learn.fit, 1, cbs=Spy(order=MixedPrecision.order+.5, before_batch=stop))
    assert not torch.is_autocast_enabled('cpu')
    quiet(learn, learn.fit, 1)
    assert not torch.is_autocast_enabled('cpu') and losses(learn).isfinite().all()

def test_overflow_changes_neither_teacher_nor_queue(tiny, cpu_amp):
    learn = tiny().to_fp16(init_scale=2.**8); m,kept = learn.model,[]
    def before(l):
        if l.train_iter==1: kept.append(({k:v for k,v in state(m).items() if 'running' not in k and 'num_batches' not in k}))
    def spoil(l):
        if l.train_iter==1: l.loss_grad = l.loss_grad*math.inf
    def after(l):
        if l.train_iter==2 and len(kept)==1: kept.append({k:v for k,v in state(m).items() if k in kept[0]})
    learn.add_cbs([Spy(before_batch=before, before_backward=spoil), Spy(order=99, after_batch=after)])
    quiet(learn, learn.fit, 1)
    assert len(kept)==2 and differ(*kept)==[] and len(learn.recorder.losses)==4
    assert losses(learn)[:1].isfinite().all() and all(v.isfinite().all() for v in state(m).values() if v.is_floating_point())

@pytest.mark.parametrize('key,value', [('front.n_mels',10**6), ('front.n_fft',10**7), ('kwargs.embed_dim',20_000), ('kwargs.blocks',10**6)])
def test_sizes_are_refused_before_memory_is_gone(learn, tmp_path, key, value):
    fn = learn.encoder.save_pretrained(tmp_path)/'config.json'
    cfg = json.loads(fn.read_text())
    outer,inner = key.split('.')
    cfg[outer][inner] = value
    fn.write_text(json.dumps(cfg))
    with pytest.raises(ConfigError, match=f'{inner} = {value} is not a number from'): AudioEncoder.from_pretrained(tmp_path)

@pytest.mark.parametrize('name', ['model.safetensors','config.json'])
def test_a_link_to_a_device_is_not_read(learn, tmp_path, name):
    learn.encoder.save_pretrained(tmp_path)
    (tmp_path/name).unlink()
    (tmp_path/name).symlink_to('/dev/zero')
    with pytest.raises(DamagedFile, match=f'{name}: is not a regular file'): AudioEncoder.from_pretrained(tmp_path)

def test_temporary_names_cannot_be_foreseen(tmp_path):
    "A link planted under the name that a writer would take is not written through; permissions of the file that is replaced stay"
    fn,secret = write_whole(tmp_path/'a.txt', 'old'),tmp_path/'secret'
    secret.write_text('secret')
    (tmp_path/f'a.txt.{os.getpid()}.tmp').symlink_to(secret)
    fn.chmod(0o600)
    seen = []
    with whole_path(fn) as tmp:
        seen.append(tmp.name)
        tmp.write_text('new')
    with whole_path(fn) as tmp:
        seen.append(tmp.name)
        tmp.write_text('newer')
    assert secret.read_text()=='secret' and fn.read_text()=='newer' and seen[0]!=seen[1]
    assert fn.stat().st_mode&0o777==0o600

def test_what_a_killed_writer_left_is_removed(tmp_path):
    p = subprocess.Popen([sys.executable, '-c', 'pass'])
    p.wait()
    from slicer_fastai.core.files import writer_tag
    left = tmp_path/f'a.txt.{writer_tag(p.pid)}-xyz.tmp'
    other = tmp_path/f'a.txt.{writer_tag(os.getppid())}-xyz.tmp'
    for o in (left,other): o.write_text('half')
    write_whole(tmp_path/'a.txt', 'whole')
    assert not left.exists() and other.exists()                              # its writer lives

def test_a_state_sets_only_what_states_hold(tiny):
    from slicer_fastai.train.resume import set_object_state, object_state
    learn = tiny()
    quiet(learn, learn.fit, 1)
    good = object_state(learn)
    with pytest.raises(ValueError, match='model_dir'): set_object_state(learn, {**good, 'learn':{'model_dir':'/tmp'}})
    name,values = good['cbs'][0]
    with pytest.raises(ValueError, match='before_fit'): set_object_state(learn, {**good, 'cbs':[(name,{**values, 'before_fit':1})]})
    set_object_state(learn, good)
