"The command: what it prints, writes and answers"
import pytest
from conftest import *
from fastcore.script import CliError
from slicer_fastai.cli import commands as C, tables
from slicer_fastai.cli.commands import *
from slicer_fastai.cli.main import *
from slicer_fastai.cli.tables import *
import configparser, importlib, shutil, subprocess

@pytest.fixture(scope='module')
def enc(tmp_path_factory):
    set_seed(0); return AudioEncoder('audiontt', **encoder_kw).save_pretrained(tmp_path_factory.mktemp('run')/'encoder').parent      # the folder of a run

@pytest.fixture
def some(files, tmp_path):
    "A folder with two sub-folders of four clips, and a file that is no sound"
    for f in [*files[:4], *files[-4:]]: (tmp_path/'some'/f.parent.name).mkdir(parents=True, exist_ok=True); shutil.copy(f, tmp_path/'some'/f.parent.name)
    (tmp_path/'some'/'broken.wav').write_bytes(b'no sound')
    return tmp_path/'some'

def test_entry_points_are_there():
    c = configparser.ConfigParser(delimiters=['=']); c.read(Path(__file__).parents[1]/'settings.ini')
    for o in c['DEFAULT']['console_scripts'].split():
        mod,f = o.split('=')[1].split(':'); assert callable(getattr(importlib.import_module(mod), f))

def test_help_shows_an_example_that_parses(capsys):
    assert slicer(['--help'])==0
    overview = capsys.readouterr().out
    for name,c in commands.items():
        assert c.load().__doc__==c.help and c.help in overview and c.example in overview
        with pytest.raises(SystemExit) as e: slicer([name, '--help'])
        assert e.value.code==0 and c.example in ' '.join(capsys.readouterr().out.split())
        assert parse_command(name, c.example.split()[2:])[1]

def test_help_and_a_misspelt_command_do_not_wait_for_torch():
    code = "from slicer_fastai.cli.main import slicer; import sys; print(slicer(['--help']), slicer(['serch']), {'torch','fastai','pandas'}&set(sys.modules))"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1]=='0 2 set()'

def test_a_list_of_tasks_does_not_wait_for_torch(tmp_path):
    pd.DataFrame(dict(path=['a.wav','b.wav'], label=['x','y'], split=['train','test'])).to_csv(tmp_path/'t.csv', index=False)
    code = f"from slicer_fastai.cli.main import slicer; import sys; print(slicer(['tasks', {str(tmp_path)!r}]), slicer(['tasks', 'nowhere']), {{'torch','fastai'}}&set(sys.modules))"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1]=='0 1 set()' and 't 1' in ' '.join(out.split())

def test_a_mistake_is_one_line_and_a_status(tmp_path, capsys):
    for args,status,say in ((['serch'],2,'search?'), (['tasks', tmp_path/'no'],1,'no such'), (['search', tmp_path],1,'--label'),
                            (['report', tmp_path],1,'report.json'), (['embed', tmp_path],1,'no file at all'), (['probe', tmp_path, '--encoder', 'no'],1,'no config.json')):
        assert slicer(args)==status
        out,err = capsys.readouterr()
        assert out=='' and say in err.splitlines()[0] and 'Traceback' not in err
    assert slicer([])==2
    with pytest.raises(SystemExit) as e: slicer(['embed'])
    assert e.value.code==2

def test_embed_then_search(some, enc, tmp_path, capsys):
    ix,first_file = tmp_path/'ix',get_audio_files(some)[-1]
    with pytest.warns(UserWarning, match='broken.wav'): assert slicer(['embed', some, '--encoder', enc, '--labels', '--out', ix])==0
    assert slicer(['search', ix, first_file, '--k', 3, '--out', tmp_path/'f.json'])==0
    assert capsys.readouterr().out==''                                       # written, not printed
    whole = [f for f in get_audio_files(some) if f.name!='broken.wav']
    a,b = pd.read_json(tmp_path/'f.json'),AudioEncoder.from_pretrained(enc/'encoder').index(whole).search(first_file, 3)
    assert a.file.tolist()==b.file.tolist() and np.allclose(a.score, b.score, atol=1e-5)
    assert slicer(['search', ix, first_file, '--k', 3])==0
    assert len(capsys.readouterr().out.splitlines())==4                      # the table alone, with its head
    n = len(SoundIndex.load(ix).files); shutil.copy(first_file, some/'new.flac')
    with pytest.warns(UserWarning, match='broken.wav'): slicer_embed([some], out=ix)
    assert len(SoundIndex.load(ix).files)==n+1

def test_embed_writes_tables(files, enc, tmp_path):
    t = slicer_embed(files[:3], encoder=enc, level='clip', out=tmp_path/'a'/'v.csv')
    want = AudioEncoder.from_pretrained(enc/'encoder').embed(files[:3])
    np.testing.assert_allclose(t.filter(regex=r'^v\d').to_numpy(), want, atol=1e-5)
    np.testing.assert_allclose(pd.read_csv(tmp_path/'a'/'v.csv').filter(regex=r'^v\d'), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(CliError, match='.parquet'): slicer_embed(files[:1], encoder=enc, out=tmp_path/'v.xls')

def test_probe_is_the_probe(sounds, files, enc, tmp_path):
    t = slicer_probe([sounds], enc, alone=True)
    (_,task), = find_tasks(sounds).items(); task = read_task(task)
    r = linear_probe(AudioEncoder.from_pretrained(enc/'encoder'), task['train'], task['test'])
    assert t.accuracy.tolist()==[round(float(r), 4)] and t.clips.tolist()==[len(r.y)] and (t.low[0],t.high[0])==tuple(round(o, 4) for o in r.interval())
    few = slicer_probe([sounds], enc, shots='1 all')
    want = few_shot(AudioEncoder.from_pretrained(enc/'encoder'), task['train'], task['test'], [1,'all']).table
    assert few.shots.astype(str).tolist()==['1','all']
    np.testing.assert_allclose(few['mean'], want.groupby('shots', sort=False).accuracy.mean(), atol=1e-4)

def test_tasks_as_they_are(files, tmp_path):
    t = pd.DataFrame(dict(filename=files, category=files.map(parent_label), group=np.arange(len(files))//9)); t.loc[0,'filename'] = 'gone.wav'
    t.to_csv(tmp_path/'t.csv', index=False); pd.DataFrame(dict(a=[1])).to_csv(tmp_path/'other.csv', index=False)
    r, = slicer_tasks([tmp_path], out=tmp_path/'o.csv').to_dict('records')
    assert (r['task'],r['train']+r['test'],r['labels'],r['groups'],r['missing'],r['valid'])==('t',108,18,12,1,0) and len(pd.read_csv(tmp_path/'o.csv'))==1
    d = find_tasks(tmp_path)['t']; assert not set(d[d.split=='train'].group)&set(d[d.split=='test'].group)
    with pytest.raises(CliError, match='no column path'): find_tasks(tmp_path/'other.csv')

def test_folds_stay_folds(files, enc, tmp_path):
    pd.DataFrame(dict(file=files, label=files.map(parent_label), fold=np.arange(len(files))%2)).to_csv(tmp_path/'t.csv', index=False)
    r, = slicer_tasks([tmp_path]).to_dict('records'); assert (r['folds'],r['train'],r['test'])==(2,0,0)
    assert slicer_probe([tmp_path/'t.csv'], enc, alone=True).clips[0]==len(files)
    with pytest.raises(CliError, match='folds'): slicer_probe([tmp_path/'t.csv'], enc, shots='1')

def test_report_lines_runs_up(tmp_path):
    for i in (1,2): (tmp_path/f'r{i}').mkdir(); (tmp_path/f'r{i}'/'report.json').write_text(json.dumps(dict(epochs=i, gained='x')))
    assert slicer_report([tmp_path/'r1',tmp_path/'r2']).epochs.tolist()==[1,2]

def test_pretrain_is_handed_on(monkeypatch):
    "Its arguments, and its exit status: stopped by hand, a result that could not be written, all well"
    from slicer_fastai.cli import pretrain as P
    seen = []
    def pretrain(path:Path=None, epochs:int=3): seen.append((path, epochs)); return figures
    monkeypatch.setattr(P, 'slicer_pretrain', pretrain)
    for figures,status in ((dict(stopped=True),130), (dict(stopped=False, failed=['report.html']),1), (dict(stopped=False),0), (None,0)):
        assert slicer(['pretrain', 'rec', '--epochs', 7])==status
    assert seen==[(Path('rec'), 7)]*4
    monkeypatch.setattr(sys, 'argv', ['slicer_pretrain', 'rec', '--epochs', '8']); figures = None
    with pytest.raises(SystemExit) as e: importlib.import_module('slicer_fastai.cli.main').pretrain()
    assert e.value.code==0 and seen[-1]==(Path('rec'), 8)

def test_an_index_keeps_its_settings(files, enc, tmp_path):
    "Its own encoder, level and hop where none is given; an error where they differ"
    made,more = partial(slicer_embed, files[:2], encoder=enc, level='clip', out=tmp_path/'i'),partial(slicer_embed, files[2:3], out=tmp_path/'i')
    made(); assert more().files[0]==3 and more(encoder=enc, level='clip').files[0]==3
    for kw in (dict(encoder='slicer-small'), dict(level='window'), dict(hop=.5)):
        with pytest.raises(CliError, match=f'--{first(kw)}.*another folder'): more(**kw)

def test_runs_on_the_device(enc, files, tmp_path, monkeypatch):
    AudioEncoder.from_pretrained(enc/'encoder').index(files[:1]).save(tmp_path/'i')
    monkeypatch.setattr(C, 'default_device', lambda: torch.device('meta'))
    for e in (load_encoder(enc), load_index(tmp_path/'i').encoder): assert next(e.parameters()).is_meta
    seen = []; monkeypatch.setattr(torch.cuda, 'is_available', lambda: True); monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', seen.append); monkeypatch.setenv('LOCAL_RANK', '3')
    load_encoder(enc); assert seen==[1]

def test_a_table_is_asked_for_before_the_work(some, enc, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as m:
        m.setattr(C, 'load_encoder', lambda name: 1/0)
        for args in (['embed', some], ['search', some, some], ['probe', some]): assert slicer([*args, '--out', tmp_path/'x.xls'])==1
        m.setattr(tables, 'find_spec', lambda name: None)
        for args in ([], ['--parts', 2]): assert slicer(['embed', some, '--out', tmp_path/'x.parquet', *args])==1
    assert 'Traceback' not in capsys.readouterr().err
    (tmp_path/'v.csv').write_text('old'); monkeypatch.setitem(tables.table_writers, '.csv', lambda df, fn: Path(fn).write_text('half') and 1/0)
    with pytest.raises(ZeroDivisionError): write_table(pd.DataFrame(), tmp_path/'v.csv')
    assert (tmp_path/'v.csv').read_text()=='old'

def test_names_that_are_not_utf8(some, enc, tmp_path, capsys):
    try: os.rename(get_audio_files(some)[0], os.path.join(os.fsencode(some), b'caf\xe9.flac'))
    except OSError: pytest.skip('a file system that wants UTF-8')
    (some/'broken.wav').unlink()
    for o in ('o.csv','o.json','o.parquet'): assert slicer(['embed', some, '--encoder', enc, '--level', 'clip', '--out', tmp_path/o])==0
    assert pd.read_csv(tmp_path/'o.csv').file.str.contains(r'caf\\xe9').sum()==1
    assert slicer(['search', some, get_audio_files(some)[-1], '--encoder', enc, '--k', 99])==0 and r'caf\xe9' in capsys.readouterr().out
    assert len(find_tasks(some))==1

def test_search_by_label_in_a_folder(some, enc):
    (some/'broken.wav').unlink(); label = get_audio_files(some)[0].parent.name
    assert label in slicer_search(some, label=label, k=9, encoder=enc).label.tolist()

def test_what_makes_no_task(files, enc, tmp_path, capsys):
    "No test part, two tables of one name, a damaged encoder: a line each; rows without a group are split one by one"
    df = pd.DataFrame(dict(path=files[:12], label=files[:12].map(parent_label), split=['train','valid']*6))
    for d in ('a','b'): (tmp_path/d).mkdir(); df.to_csv(tmp_path/d/'t.csv', index=False)
    for args,say in (([tmp_path/'a'],'needs train and test'), ([tmp_path/'a',tmp_path/'b'],'two tasks named t')):
        assert slicer(['probe', *args, '--encoder', enc])==1 and say in capsys.readouterr().err
    e = shutil.copytree(enc, tmp_path/'e'); w = e/'encoder'/'model.safetensors'; b = bytearray(w.read_bytes()); b[-1] ^= 1; w.write_bytes(b)
    assert slicer(['probe', tmp_path/'a', '--encoder', e])==1 and 'checksum' in capsys.readouterr().err
    df.drop(columns='split').assign(group=['g']*4+[None]*8).to_csv(tmp_path/'a'/'t.csv', index=False)
    t = find_tasks(tmp_path/'a')['t']; assert (t.split=='test').tolist()==[False]*7+[True]+[False]*3+[True]

def test_a_report_written_anew_tells_of_the_run(tiny, folder, tmp_path):
    "An exported learner has no clips: the figures are those of report.json; what is broken is left out; always the same recordings"
    l,run = tiny(),tmp_path/'run'; run.mkdir()
    with l.no_bar(), l.no_logging(): l.fit(1, cbs=Health())
    l.path = run; l.export('learner.pkl')
    (run/'report.json').write_text(json.dumps(dict(clips=3300, valid_clips=30, seconds=7)))
    d = folder(6); (d/'bad.wav').write_text('x')
    with pytest.warns(UserWarning, match='1 of 7 recordings cannot be read and are left out'): slicer_report([run], d, trust=True)
    text = (run/'report.html').read_text()
    for o in ('3,300 clips to train on, 30 to validate','3,300 clips were seen','<td>7 s</td>'): assert o in text
    assert 'class="lacks"' not in text and len(re.findall('<circle', text))==6
    (d/'bad.wav').unlink(); assert len(readable_files(d, 4))==4 and readable_files(d, 4)==readable_files(d, 4)
    def broken(r): raise AudioReadError('a.wav', 'is torn', 'leave it out')
    from slicer_fastai.interpret.report import report_section
    assert 'class="lacks">a.wav' in report_section(None, 'Map', '', broken)

def test_a_pickle_is_opened_only_when_asked_to(tmp_path, monkeypatch):
    "`slicer report --recordings` runs no code of a stranger's learner.pkl"
    from slicer_fastai.cli.commands import ask_to_unpickle
    from fastcore.script import CliError
    monkeypatch.setattr('sys.stdin.isatty', lambda: False, raising=False)
    with pytest.raises(CliError, match='runs whatever code .* --trust'): ask_to_unpickle(tmp_path/'learner.pkl', False)
    assert ask_to_unpickle(tmp_path/'learner.pkl', True) is None

def test_csv_for_people_runs_nothing_and_reads_back(files, enc, tmp_path, capsys):
    "Names and labels that a spreadsheet would run are guarded in .csv, not in .json; they are read again as they were"
    names = ['=1+1.flac','-2.flac',"'=3.flac",'owl.flac']
    d = tmp_path/'d'; d.mkdir()
    for f,name in zip(files, names): shutil.copy(f, d/name)
    t = pd.DataFrame(dict(file=names, label=['@a','@a','+b','c'], n=[-1,2,3,4]))
    write_table(t, d/'t.csv'); write_table(t, d/'t.json')
    written = pd.read_csv(d/'t.csv')
    assert written.file.tolist()==["'=1+1.flac","'-2.flac","''=3.flac",'owl.flac']
    assert written.label.tolist()==["'@a","'@a","'+b",'c'] and written.n.tolist()==[-1,2,3,4]
    assert pd.read_json(d/'t.json').file.tolist()==names
    assert read_table(d/'t.csv').file.tolist()==names and read_table(d/'t.csv').label.tolist()==t.label.tolist()
    assert [Path(o).name for o in C.find_recordings(d/'t.csv')]==names
    task = find_tasks(d/'t.csv')['t']
    assert [Path(o).name for o in task.path]==names and all(Path(o).exists() for o in task.path) and task.label.tolist()==t.label.tolist()

def test_names_that_would_act_in_a_terminal_are_escaped(files, enc, tmp_path, capsys):
    "In the table, in its header, in errors and in warnings"
    bad = 'a\x1b[2Jb.flac'
    shutil.copy(files[0], tmp_path/bad)
    assert slicer(['embed', tmp_path/bad, '--encoder', enc, '--level', 'clip'])==0
    out,err = capsys.readouterr(); assert r'a\x1b[2Jb.flac' in out and '\x1b' not in out+err
    for args in (['embed', tmp_path/'no\x1b[2J.wav'], ['search', tmp_path/'gone\x1b[2J', tmp_path/bad], ['probe', tmp_path/'no\x1b[2J'], ['report', tmp_path/'no\x1b[2J'],
                 ['tasks', tmp_path/'no\x1b[2J'], ['shard', tmp_path/'no\x1b[2J', tmp_path/'s'], ['detect', tmp_path/'no\x1b[2J', '--labels', tmp_path/'no\x1b[2J']):
        assert slicer([*args])==1, args
        out,err = capsys.readouterr(); assert '\x1b' not in out+err and r'\x1b[2J' in err, args
    (tmp_path/'r').mkdir(); (tmp_path/'r'/'report.json').write_text(json.dumps({'k\x1b[2J':1, 'gained':'x\x1b[31my'}))
    assert slicer(['report', tmp_path/'r'])==0
    out,err = capsys.readouterr(); assert '\x1b' not in out+err and r'k\x1b[2J' in out and r'x\x1b[31my' in out

def test_bars_only_in_a_terminal(capsys, monkeypatch):
    "A log gets lines, and what a terminal would show in the end"
    from fastprogress import progress_bar
    from slicer_fastai.cli import main as M
    def work():
        for _ in progress_bar(range(3), leave=False): pass
        print('one line\r\nanother')
        for _ in progress_bar(range(3)): pass
    with M.progress_on_stderr(): work()
    out,err = capsys.readouterr()
    assert out=='' and err.splitlines()==['one line','another']
    monkeypatch.setattr(M, 'in_terminal', lambda stream: True)
    with M.progress_on_stderr(): work()
    out,err = capsys.readouterr()
    assert out=='' and '█' in err and '3/3' in err

def test_one_line_says_what_was_written(some, enc, tmp_path, capsys):
    (some/'broken.wav').unlink()
    run = r'in 0:00:\d\d\.\d'
    def last(*args):
        assert slicer([*args])==0
        out,err = capsys.readouterr()
        assert out=='' and '\r' not in err and '█' not in err
        return err.splitlines()[-1]
    assert re.fullmatch(rf'{tmp_path}/v.csv: 8 rows, {run}', last('embed', some, '--encoder', enc, '--level', 'clip', '--out', tmp_path/'v.csv'))
    assert re.fullmatch(rf'{tmp_path}/ix: 8 vectors of 8 recordings, {run}', last('embed', some, '--encoder', enc, '--level', 'clip', '--out', tmp_path/'ix'))
    assert re.fullmatch(rf'{tmp_path}/p: 2 of 2 parts of 8 recordings are there, {run}', last('embed', some, '--encoder', enc, '--level', 'clip', '--parts', 5, '--out', tmp_path/'p'))
    assert re.fullmatch(rf'{tmp_path}/f.csv: 3 rows, {run}', last('search', tmp_path/'ix', get_audio_files(some)[0], '--k', 3, '--out', tmp_path/'f.csv'))
    assert re.fullmatch(rf'{tmp_path}/t.csv: 1 rows, {run}', last('tasks', some, '--out', tmp_path/'t.csv'))
    assert re.fullmatch(rf'{tmp_path}/s/shards.json: 8 clips in 2 shards, {run}', last('shard', some, tmp_path/'s', '--clips', 5))

def test_a_pipe_gets_all_columns_and_times_are_clocks(capsys, monkeypatch):
    from slicer_fastai.cli import main as M
    df = pd.DataFrame({'file':['x'*300], 'start':[3725.04], 'end':[math.nan], **{f'v{i}':[i] for i in range(40)}})
    M.print_table(df)
    out,err = capsys.readouterr()
    head,row = out.splitlines()
    assert head.split()==list(df.columns) and row.split()==['x'*300, '1:02:05.0', 'NaN', *map(str, range(40))] and err==''
    monkeypatch.setattr(M, 'in_terminal', lambda stream: True)
    M.print_table(df)
    out,err = capsys.readouterr()
    assert '...' in out and '12 of 43 columns; --out table.csv writes all' in err

def test_the_advice_of_a_report_is_todays():
    from slicer_fastai.interpret.report import longer_run
    from slicer_fastai.cli.pretrain import default_epochs
    for name,n in ((None,500), ('slicer-small',200)):
        usual = default_epochs(n, name)*n
        assert longer_run(usual, name)==[] and len(longer_run(usual//2, name))==1
    assert 'about 10,000' in longer_run(500, None)[0] and 'slicer-small' in longer_run(500, None)[0]
    assert 'goes on from slicer-small slicer pretrain takes about 3,000' in longer_run(500, 'slicer-small')[0]

def test_a_big_index_from_the_shell(files, tmp_path):
    "`--big` makes one, a second call adds to it whether it says so or not, `search` asks it; what does not fit is told"
    from slicer_fastai.cli.commands import slicer_embed, slicer_search
    from slicer_fastai.use.big import BigIndex
    out = tmp_path/'big'
    made = slicer_embed(files[:6], out=out, big=True, labels=True)
    assert made.files[0]==6 and isinstance(SoundIndex.load(out), BigIndex)
    assert slicer_embed(files[:8], out=out).files[0]==8
    found = slicer_search(out, files[0], k=3)
    same = SoundIndex(SoundIndex.load(out).encoder).add(files[:8]).search(files[0], 3)
    assert found.file.tolist()==same.file.tolist() and found.score.is_monotonic_decreasing     # its scores are by another sample
    with pytest.raises(CliError, match='hop'): slicer_embed(files[:6], out=out, hop=.5, big=True)
    for wrong in (dict(out=None), dict(out=tmp_path/'v.csv'), dict(out=out, level='clip'), dict(out=out, parts=3)):
        with pytest.raises(CliError, match='--big'): slicer_embed(files[:6], big=True, **wrong)
    slicer_embed(files[:2], out=tmp_path/'small')
    with pytest.raises(CliError, match='not a big one'): slicer_embed(files[:2], out=tmp_path/'small', big=True)

def test_what_is_printed_on_the_way_is_escaped(capsys, monkeypatch):
    from slicer_fastai.cli import main as M
    for terminal in (False, True):
        monkeypatch.setattr(M, 'in_terminal', lambda stream: terminal)
        with M.progress_on_stderr(): print('made a\x1b[2Jb.wav\tnow')
        out,err = capsys.readouterr()
        assert out=='' and err==r'made a\x1b[2Jb.wav'+'\tnow\n'
    assert M.message_only('x\x1b[2J.wav')=='x\\x1b[2J.wav\n'

def test_a_reader_that_has_read_enough():
    "`slicer … | head` ends without a word"
    code = 'import sys; sys.argv = ["slicer","--help"]; from slicer_fastai.cli.main import main; main()'
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    assert (p.stderr.read(), p.wait())==(b'', 0)
