"The command, as a shell runs it and as its checks answer"
from conftest import *
from fastcore.script import CliError
from slicer_fastai.cli.main import *
from slicer_fastai.cli.pretrain import *
from slicer_fastai.interpret.curves import epoch_table
import signal, subprocess, soundfile as sf

root = Path(__file__).resolve().parents[1]
SMALL = '--d 32 --width 8 --workers 0'.split()

@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    "Two folders of eight tones, low and high, with names that no page or shell likes, and a broken file"
    d,rng = tmp_path_factory.mktemp('rec'),np.random.default_rng(0)
    t = np.arange(19200)/16000
    for k,m in (('low',1),('high <b>',5)):
        (d/k).mkdir()
        for i in range(8): sf.write(d/k/f'{i} & "x".wav', .3*np.sin(2*np.pi*t*(200+30*i)*m)+.02*rng.normal(size=len(t)), 16000)
    (d/'low'/'broken.wav').write_bytes(b'no sound')
    return d

@pytest.fixture
def light_report(monkeypatch):
    "A report of one line, where it is not what is tested: the real one takes most of the time of a short run"
    monkeypatch.setattr(SlicerLearner, 'report', lambda self, fn, title=None, **kwargs: Path(fn).write_text(f'{title} {self.diagnose()}'))

def command(args, cwd):
    "The function behind the console script, in a process of its own"
    cmd = [sys.executable, '-c', 'from slicer_fastai.cli.main import pretrain; pretrain()']
    env = {**os.environ, 'PYTHONPATH':str(root), 'OMP_NUM_THREADS':'1', 'PYTHONUNBUFFERED':'1', 'PYTHONWARNINGS':'default'}
    return subprocess.Popen([*cmd, *map(str, args)], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def test_as_the_shell_runs_it(recordings, tmp_path):
    "README's line: a folder first, then options; its results, its last words, its exit status"
    p = command([recordings, '--epochs', 1, *SMALL], tmp_path); out,err = p.communicate(timeout=400)
    assert p.returncode==0, err
    assert 'Traceback' not in err and 'broken.wav' in err                     # skipped, and named
    run = tmp_path/'slicer_run'
    assert {o.name for o in run.iterdir()}=={'encoder','learner.pkl','report.html','report.json','run.safetensors','history.csv'}
    r = json.loads((run/'report.json').read_text())
    assert r['epochs']==1 and r['knn_n']==8 and 0<=r['knn_untrained']<=1 and r['lr']==1e-3 and not r['stopped']
    assert r['gained'] in out.splitlines()[-1] and '±' in out
    assert '<b>' not in (run/'report.html').read_text() and len(pd.read_csv(run/'history.csv'))==1
    assert AudioEncoder.from_pretrained(run/'encoder').embed(get_audio_files(recordings)[:1]).shape[0]==1
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); l = load_learner(run/'learner.pkl')
    assert len(epoch_table(l))==1 and len(l.plot_health())==8; plt.close('all')
    with pytest.raises(CliError, match='--fresh'): slicer_pretrain(recordings, out=run)

def test_ctrl_c_keeps_what_was_learned(recordings, tmp_path):
    p = command([recordings, '--epochs', 5000, '--out', 'run', *SMALL], tmp_path)
    for _ in range(1200):
        time.sleep(.25)
        h = tmp_path/'run'/'history.csv'
        if p.poll() is not None or h.exists() and len(h.read_text().splitlines())>2: break
    p.send_signal(signal.SIGINT); out,err = p.communicate(timeout=300)
    assert p.returncode==130 and 'stopped by hand' in out and 'Traceback' not in err, err
    assert {o.name for o in (tmp_path/'run').iterdir()}=={'encoder','learner.pkl','report.html','report.json','run.safetensors','history.csv','state'}
    assert 1<=json.loads((tmp_path/'run'/'report.json').read_text())['epochs']<5000

def test_a_mistake_is_one_line(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert slicer(['pretrain', recordings, '--lr', 'nan'])==1
    assert capsys.readouterr().err.splitlines()==['slicer pretrain: --lr nan: must be above 0 and at most 1; the default is 1e-3, to go on 1e-4']
    assert not (tmp_path/'slicer_run').exists()

@pytest.mark.parametrize('kw,say', [(dict(lr=0.),'--lr'), (dict(lr=-1.),'--lr'), (dict(lr=50.),'--lr'), (dict(lr=math.inf),'--lr'), (dict(epochs=0),'--epochs'), (dict(d=0),'--d'),
    (dict(width=0),'--width'), (dict(bs=1),'--bs'), (dict(workers=-1),'--workers'), (dict(seed=-1),'--seed'), (dict(duration=0.),'duration'), (dict(arch='resnet81'),'resnet18'),
    (dict(arch='resnet18', width=4),'audiontt'), (dict(from_='slicer-small', d=8),'leave out --d'), (dict(from_='nowhere'),'nowhere'), (dict(minutes=0.),'--minutes'), (dict(segment='short'),'--segment short'), (dict(segment='-1'),'--segment'),
    (dict(sr=32000),'--sr: slicer-small hears as it was trained'), (dict(f_max=4000., from_='slicer-small'),'--f-max'), (dict(out='/proc/no/where'),'cannot be written')], ids=str)
def test_checks_come_first(recordings, tmp_path, monkeypatch, kw, say):
    monkeypatch.setattr('slicer_fastai.cli.pretrain.fit_or_resume', None)
    with pytest.raises(CliError, match=say) as e: slicer_pretrain(recordings, **{'out':tmp_path/'run', 'workers':0, **kw})
    assert '\n' not in str(e.value)

def test_a_run_is_not_written_over(recordings, tmp_path, light_report):
    (tmp_path/'report.json').write_text('{}'); (tmp_path/'encoder').mkdir(); (tmp_path/'mine.txt').write_text('x')
    with pytest.raises(CliError, match='holds a run'): slicer_pretrain(recordings, out=tmp_path, workers=0)
    (tmp_path/'file').write_text('')
    with pytest.raises(CliError, match='cannot be written'): slicer_pretrain(recordings, out=tmp_path/'file', workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        r = slicer_pretrain(recordings, out=tmp_path, workers=0, epochs=1, d=32, width=8, fresh=True)
    assert json.loads((tmp_path/'report.json').read_text())==r and (tmp_path/'mine.txt').exists()

@pytest.mark.parametrize('asked,computes,want', [('bf16',False,True), ('float32',True,False), (None,True,True), (None,False,False)])
def test_precision(recordings, tmp_path, monkeypatch, light_report, asked, computes, want):
    "bfloat16 where it is asked for, or where nothing is asked and the processor computes it"
    seen,loss = [],SlicerModel.loss
    monkeypatch.setattr('slicer_fastai.cli.pretrain.computes_bf16', lambda: computes)
    monkeypatch.setattr(SlicerModel, 'loss', lambda self, *args, **kwargs: (seen.append(torch.is_autocast_enabled('cpu')), loss(self, *args, **kwargs))[1])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        r = slicer_pretrain(recordings, out=tmp_path/'run', workers=0, epochs=1, d=32, width=8, precision=asked)
    assert any(seen)==want and r['precision']==('bf16' if want else 'float32') and math.isfinite(r['valid_loss'])   # Health looks in float32

def test_results_are_written_one_by_one(recordings, tmp_path, monkeypatch, light_report, capsys):
    def broken(*args, **kwargs): raise RuntimeError('no room')
    monkeypatch.setattr(SlicerLearner, 'export', broken)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        figures = slicer_pretrain(recordings, out=tmp_path/'run', workers=0, epochs=1, d=32, width=8)
    assert figures['failed']==['learner.pkl']
    assert {o.name for o in (tmp_path/'run').iterdir()}=={'encoder','report.html','report.json','run.safetensors','history.csv','state'}   # the same command writes what is missing
    assert 'learner.pkl could not be written' in capsys.readouterr().out

def test_a_loss_that_is_no_number(recordings, tmp_path, monkeypatch):
    real = SlicerModel.loss
    monkeypatch.setattr(SlicerModel, 'loss', lambda self, pred, *args, **kwargs: real(self, pred, *args, **kwargs)._replace(loss=pred[0].sum()*math.nan))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(CliError, match='lower than'): slicer_pretrain(recordings, out=tmp_path/'run', workers=0, epochs=1, d=32, width=8)
    assert not (tmp_path/'run'/'encoder').exists()

def run_of(recordings, out, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return slicer_pretrain(recordings, out=out, workers=0, **kwargs)

def test_it_goes_on_from_the_encoder_that_is_there(recordings, tmp_path, light_report, capsys):
    "By default from slicer-small; from a run; the last line has untrained, start and trained"
    r = run_of(recordings, tmp_path/'a', epochs=1)
    assert r['start']=='slicer-small' and AudioEncoder.from_pretrained(tmp_path/'a'/'encoder').num_features==AudioEncoder.from_pretrained('slicer-small').num_features
    last = capsys.readouterr().out.splitlines()[-1]
    for name,key in (('the untrained encoder','untrained'), ('the encoder it began with','start'), ('trained','trained')): assert f"{name} {r['knn_'+key]:.1%} ±" in last, last
    assert 'Too few labelled clips to tell' in last or r['knn_trained']!=r['knn_start']
    begun = AudioEncoder.from_pretrained(tmp_path/'a'/'encoder')
    r = run_of(recordings, tmp_path/'b', from_=tmp_path/'a', epochs=1, lr=1e-7)
    ended = AudioEncoder.from_pretrained(tmp_path/'b'/'encoder')
    for a,b in zip(begun.parameters(), ended.parameters()): assert torch.allclose(a, b, atol=1e-4)
    assert torch.equal(begun.norm.mean, ended.norm.mean)

def test_without_a_folder_a_new_network_learns_beside_the_one_that_is_there(recordings, tmp_path, light_report, capsys, monkeypatch):
    "A first look: a new network, few passes, and what slicer-small has on the same clips; with a folder neither"
    import slicer_fastai.cli.pretrain as room
    monkeypatch.setattr(room, 'synth_sounds', lambda: recordings)
    assert start_of(None, None, None, None, new=True)==('audiontt', dict(d=512, width=32))
    assert start_of('run', None, None, None, new=True)==('run', None) and start_of(None, None, None, None)==('slicer-small', None)
    r = run_of(None, tmp_path/'a', epochs=1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert r['start']=='audiontt' and r['knn_start']==r['knn_untrained'] and f"slicer-small, which comes with the library and has heard 17 hours of sound: {r['shipped']:.1%} on the same clips" in last
    assert (tmp_path/'a'/'report.html').read_text().startswith('A first look, at synthesised sounds')
    probe = KNNProbe(*folder_halves(recordings, get_audio_files(recordings)))
    front = FrontEnd()
    (a,la),(b,lb) = probe.train,probe.test
    enc = AudioEncoder.from_pretrained('slicer-small')
    with torch.no_grad(): xa,xb = [enc(front.specs(L(o)).as_subclass(torch.Tensor)).numpy() for o in (a,b)]
    assert abs(r['shipped']-float(knn_probe(None, (xa,np.array(la)), (xb,np.array(lb)))))<=1/len(lb)+1e-6
    assert 'shipped' not in run_of(None, tmp_path/'b', epochs=1, from_='slicer-small')
    assert run_of(None, tmp_path/'c', epochs=1, d=32, width=8, sr=8000)['shipped']==r['shipped']      # it hears in its own way
    assert (default_epochs(810, None), default_epochs(810, None, first_look=True), default_epochs(810, 'slicer-small'))==(12, 3, 3)

def test_a_new_network_hears_as_asked_and_long_recordings_are_segments(tmp_path, light_report, capsys):
    "One recording of 95 s at 32 kHz: ten segments, of which the last one validates; its highest frequency half the sample rate"
    (tmp_path/'long').mkdir()
    sf.write(tmp_path/'long'/'night.wav', np.random.default_rng(0).normal(0, .1, 95*32000), 32000)
    r = run_of(tmp_path/'long', tmp_path/'run', arch='audiontt', d=32, width=8, epochs=1, sr=32000, bs=4)
    assert (r['clips'], r['valid_clips'])==(6, 4) and '1 of 1 recordings longer than 30 s are cut: 10 clips, segments of 10 s' in capsys.readouterr().err
    front = AudioEncoder.from_pretrained(tmp_path/'run'/'encoder').front
    assert (front.sr, front.mel.f_max)==(32000, 16000)
    assert [segment_of(o) for o in ('long','none','2.5')]==['long', None, 2.5]
    dls,files = make_loaders(tmp_path/'long', front, 4, 0, 0, 5.)
    assert len(files)==1 and len(dls.train_ds)+len(dls.valid_ds)==19

def test_the_option_is_called_from(capsys):
    with pytest.raises(SystemExit): slicer(['pretrain','--help'])
    assert '--from (str)' in capsys.readouterr().out
    with pytest.raises(SystemExit): slicer(['pretrain','--form','x'])

def test_minutes_end_a_run_with_its_schedule(recordings, tmp_path, light_report):
    "A thousand epochs, six seconds: the rate has fallen, the last epoch is validated and reported"
    t = time.time()
    seen = []
    class See(Callback):
        def after_train(self): seen.append(self.opt.hypers[-1]['lr'])
    defaults.callbacks.append(See)
    try: r = run_of(recordings, tmp_path/'run', epochs=1000, minutes=.1, d=32, width=8)
    finally: defaults.callbacks.remove(See)
    assert 1<=r['epochs']<1000 and len(pd.read_csv(tmp_path/'run'/'history.csv'))==r['epochs'] and not r['stopped']
    assert seen[-1]<.1*max(seen) or r['epochs']==1

def test_folder_halves(recordings, files):
    fs = get_audio_files(recordings)
    (a,la),(b,lb) = folder_halves(recordings, fs)
    assert sorted(a+b)==[f for f in fs if f.name!='broken.wav'] and Counter(la)==Counter(lb)=={'low':4,'high <b>':4}
    assert folder_halves(recordings, fs[:8]) is None and folder_halves(recordings, fs[:11]) is None

def test_a_report_is_written_anew_without_opening_a_pickle(recordings, tmp_path, monkeypatch):
    "From the encoder and run.safetensors: the same page as from the pickle, but for the time; what does not fit is named"
    from slicer_fastai.cli import commands as C
    run = tmp_path/'run'
    r = run_of(recordings, run, epochs=1, d=32, width=8)
    files = [f for f in get_audio_files(recordings) if f.name!='broken.wav']
    def page(**kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            C.slicer_report([run], recordings, **kwargs)
        text = (run/'report.html').read_text()
        return re.sub(r'20\d\d-\d\d-\d\d \d\d:\d\d', 'now', text)
    by_pickle = page(trust=True)
    monkeypatch.setattr(C, 'load_learner', lambda fn: 1/0)
    monkeypatch.setattr(C, 'ask_to_unpickle', lambda fn, trust: 1/0)
    by_state = page()
    settings = [re.sub('<.*?>', ' ', o) for o in (by_pickle, by_state)]
    for o in settings: assert f"{r['clips']} clips to train on, {r['valid_clips']} to validate" in o
    a,b = [re.findall(r'<tr>.*?</tr>', o, re.S) for o in (by_pickle, by_state)]
    other = [o for o in a if o not in b]                                # a pickle keeps no losses of epochs
    assert len(a)>10 and len(other)<=2 and all('<th>epoch' in o or '<th>1</th>' in o for o in other)
    assert '<th>train_loss</th>' in by_state
    assert by_pickle.count('<svg')==by_state.count('<svg') and by_pickle.count('<figure')==by_state.count('<figure') and 'class="lacks"' not in by_state
    data = (run/'run.safetensors').read_bytes()
    (run/'run.safetensors').write_bytes(b'x'*100)
    with pytest.raises(DamagedFile, match='run.safetensors'): C.learner_of_run(run, files)
    (run/'run.safetensors').write_bytes(data)
    AudioEncoder('audiontt', d=16, width=8).save_pretrained(run/'encoder')
    with pytest.raises(DamagedFile, match='run.safetensors: does not fit the encoder'): C.learner_of_run(run, files)
