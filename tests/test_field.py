"Annotations of other programs, events and detection: right values, and errors that name the file"
from conftest import *
import soundfile as sf
from slicer_fastai.audio.scenes import *
from slicer_fastai.field.annotations import *
from slicer_fastai.field.events import *
from slicer_fastai.field.detect import *

@pytest.fixture
def recordings(tmp_path):
    for name in ('one.wav','two.wav','sub/three.wav'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path/name, np.zeros(16000*12, np.float32)+1e-3, 16000)
    return tmp_path

def read(fn, text, **kwargs):
    "Write a file of annotations and read it"
    fn.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_annotations(fn, verbose=False, **kwargs)

def names(events): return [Path(o).name for o in events.file]

table = 'filename,onset,offset,event_label\none.wav,1.5,2.25,owl\ntwo.wav,0.001,11.999,NA\n'

@pytest.mark.parametrize('encoding', ['utf-8','utf-8-sig','utf-16','utf-16-le-bom','latin-1'])
@pytest.mark.parametrize('sep', [',',';','\t'])
def test_encodings_and_separators(recordings, encoding, sep):
    text = table.replace('owl','Käuzchen').replace(',', sep)
    data = b'\xff\xfe'+text.encode('utf-16-le') if encoding=='utf-16-le-bom' else text.encode(encoding)
    events = read(recordings/'list.csv', data)
    assert events.label.tolist()==['Käuzchen','NA'] and events.start.tolist()==[1.5,.001] and events.end.tolist()==[2.25,11.999]
    assert names(events)==['one.wav','two.wav'] and all(Path(o).is_file() for o in events.file)

@pytest.mark.parametrize('name,file', [('one','one.wav'), ('ONE.WAV','one.wav'), ('three','sub/three.wav'), (r'D:\data\sub\three.wav','sub/three.wav')])
def test_a_name_without_its_ending_or_in_other_letters(recordings, name, file, recwarn):
    events = read(recordings/'list.csv', f'file,start,end,label\n{name},1,2,owl\n')
    assert events.file[0]==str(recordings/file) and not [o for o in recwarn if o.category is UserWarning]

def test_recordings_of_one_name_in_several_folders(recordings):
    "Recorders name their files by the time: the folder decides; where it is another than the table says, that is told"
    with pytest.warns(UserWarning, match='1 recordings were found by their names in another folder.* e.g. site7/three.wav as .*sub/three.wav'):
        read(recordings/'list.csv', 'file,start,end,label\nsite7/three.wav,1,2,owl\n')
    (recordings/'site7').mkdir()
    sf.write(recordings/'site7'/'three.wav', np.zeros(16000*12), 16000)
    events = read(recordings/'list.csv', r'file,start,end,label'+'\n'+r'D:\data\site7\three.wav,1,2,owl'+'\n')
    assert events.file[0]==str(recordings/'site7'/'three.wav')
    with pytest.raises(ValueError, match='sub.three.wav and .*site7.three.wav have this name|site7.three.wav and .*sub.three.wav have this name'):
        read(recordings/'list.csv', 'file,start,end,label\nthree.wav,1,2,owl\n')

@pytest.mark.parametrize('label', ['NA','None','null','nan','', '007', '1e3', 'True', '=1+1', '-', "'quoted", 'a "b", c'])
def test_labels_stay_text(recordings, label):
    events = Events(dict(file=[str(recordings/'one.wav')], start=[1.], end=[2.], label=[label]))
    back = read_annotations(events.to_csv(recordings/'all.csv'), verbose=False)
    assert back.label.tolist()==[label]

@pytest.mark.parametrize('times,expected', [('1.5,2','1.5 2'), ('0:01.5,0:02','1.5 2'), ('0:00:01.5,0:00:02','1.5 2')])
def test_clock_times(recordings, times, expected):
    events = read(recordings/'list.csv', f'file,start,end,label\none.wav,{times},owl\n')
    assert [events.start[0],events.end[0]]==[float(o) for o in expected.split()]

def test_units_and_durations(recordings):
    assert read(recordings/'a.csv', 'file,start_ms,duration_ms,label\none.wav,1500,500,owl\n')[['start','end']].iloc[0].tolist()==[1.5,2.]
    assert read(recordings/'a.csv', 'file;start;end;label\none.wav;1,5;2,25;owl\n')[['start','end']].iloc[0].tolist()==[1.5,2.25]

def test_raven_of_several_recordings_counts_from_each(recordings):
    text = ('Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\tFile Offset (s)\tSpecies\n'
            '1\tWaveform 1\t1\t2.0\t3.0\t100\t900\tone.wav\t2.0\towl\n1\tSpectrogram 1\t1\t2.0\t3.0\t100\t900\tone.wav\t2.0\towl\n'
            '2\tSpectrogram 1\t1\t15.5\t16.25\t100\t900\ttwo.wav\t3.5\tfox\n')
    events = read(recordings/'all.txt', text)
    assert events.start.tolist()==[2.,3.5] and events.end.tolist()==[3.,4.25] and names(events)==['one.wav','two.wav']
    assert events.low.tolist()==[100,100] and events.label.tolist()==['owl','fox']

def test_birdnet(recordings):
    text = 'Start (s),End (s),Scientific name,Common name,Confidence\n0.0,3.0,Strix aluco,Tawny Owl,0.91\n'
    events = read(recordings/'one.BirdNET.results.csv', text)
    assert names(events)==['one.wav'] and events.label.tolist()==['Tawny Owl'] and events.score.tolist()==[.91]

def test_audacity_with_frequencies_and_points(recordings):
    events = read(recordings/'two.txt', '1.0\t2.0\towl\n\\\t300.0\t900.0\n5.5\t5.5\tpoint\n7.0\t8.0\t\n')
    assert events.label.tolist()==['owl','point',''] and events.low.tolist()[0]==300 and names(events)==['two.wav']*3

@pytest.mark.parametrize('write', ['to_csv','to_raven','to_audacity','to_textgrid'])
def test_round_trip_to_the_millisecond(recordings, write):
    if write=='to_textgrid': pytest.importorskip('crowsetta')
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(0, 10, 40)).round(6)
    events = Events(dict(file=rng.choice([str(recordings/'one.wav'),str(recordings/'two.wav')], 40), start=start, end=(start+rng.uniform(.01, 2, 40)).round(6),
                         label=rng.choice(['owl','=fox','ä "b"'], 40)))
    out = getattr(events, write)(recordings/('out.csv' if write=='to_csv' else 'out'))
    back = read_annotations(out, recordings=recordings, verbose=False)
    key = lambda t: t[['file','start','end','label']].sort_values(['file','start','label'], ignore_index=True)
    a,b = key(events),key(back)
    assert a.file.tolist()==b.file.tolist() and a.label.tolist()==b.label.tolist()
    assert np.abs(a[['start','end']].to_numpy()-b[['start','end']].to_numpy()).max()<1e-3

@pytest.mark.parametrize('text,message', [
    ('file,begin,label\none.wav,1,owl\n','neither ends nor durations'), ('a,b\n1,2\n','which column is the start'),
    ('file,start,end,label\none.wav,soon,2,owl\n',"row 1: start is 'soon'"), ('file,start,end,label\none.wav,3,2,owl\n','end before they begin'),
    ('start,end,label\n1,2,owl\n','has no column of files'), ('','is empty'), (b'\x00\x01\x02','zero bytes')])
def test_what_is_wrong_is_named(recordings, text, message):
    with pytest.raises(ValueError, match=message) as e: read(recordings/'list.csv', text)
    assert 'list.csv' in str(e.value)

def test_a_recording_that_is_not_there_is_said(recordings):
    with pytest.warns(UserWarning, match='1 of 1 recordings are not there.*gone.wav'): read(recordings/'list.csv', 'file,start,end,label\ngone.wav,1,2,owl\n')

def test_two_recordings_of_one_name(recordings):
    sf.write(recordings/'sub/one.wav', np.zeros(16000), 16000)
    assert names(read(recordings/'list.csv', 'file,start,end,label\none.wav,1,2,owl\n'))==['one.wav']                 # as the path says
    with pytest.raises(ValueError, match='give whole paths, relative to'): read(recordings/'list.csv', 'file,start,end,label\nelsewhere/ONE.wav,1,2,owl\n')

def test_one_file_for_several_recordings_is_refused_where_it_has_no_place(recordings):
    events = Events(dict(file=['a.wav','b.wav'], start=[0.,0.], end=[1.,1.], label='x'))
    with pytest.raises(ValueError, match='give a folder'): events.to_audacity(recordings/'all.txt')

# --- detection ---

@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    path = synth_recordings(n=4, seconds=30., each=3, path=tmp_path_factory.mktemp('scene')/'r')
    return path,read_annotations(path/'events.csv', verbose=False)

@pytest.fixture(scope='module')
def detector(scene): return AudioEncoder.from_pretrained('slicer-small').detector(scene[1][scene[1].file.isin(scene[1].file.unique()[:3])])

def test_background_is_none_of_these(detector, tmp_path):
    "A softmax over what it knows would have to call noise one of its classes"
    sf.write(tmp_path/'noise.wav', np.random.default_rng(1).normal(size=16000*20).astype(np.float32)*.01, 16000)
    scores = detector.scores(tmp_path/'noise.wav')
    assert (scores[detector.labels].to_numpy()<.5).mean()>.9

def test_found_again(detector, scene):
    path,annotated = scene
    test = annotated[annotated.file==annotated.file.unique()[3]]
    found = detector.detect(test.file.iloc[0], threshold=.02)
    assert evaluate_events(found, test).table.average_precision['mean']>.5

def test_scores_go_on_where_they_stopped(detector, scene, tmp_path, monkeypatch):
    import slicer_fastai.field.detect as D
    files = list(scene[1].file.unique())
    whole = detector.scores(files, progress=False)
    detector.scores(files, folder=tmp_path, part=(0,2), progress=False)
    heard = []
    real = D.embed
    monkeypatch.setattr(D, 'embed', lambda encoder, items, **kw: heard.append(len(items)) or real(encoder, items, **kw))
    again = detector.scores(files, folder=tmp_path, progress=False)
    assert heard==[(whole.file==o).sum() for o in files[1::2]] and again.file.tolist()==whole.file.tolist()
    close(again[detector.labels].to_numpy(), whole[detector.labels].to_numpy(), 1e-5)

def test_parts_are_the_whole(detector, scene):
    files = list(scene[1].file.unique())
    whole = detector.scores(files, progress=False)
    parts = pd.concat([detector.scores(files, part=(i,3), progress=False) for i in range(3)])
    assert parts.sort_values(['file','start'], ignore_index=True).equals(whole.sort_values(['file','start'], ignore_index=True))
    assert len(detector.scores(files[:1], part=(1,2)))==0, 'more processes than recordings: one has nothing to do'

def test_a_long_recording_is_heard_in_stretches(detector, scene, tmp_path, monkeypatch):
    "Five minutes are in memory, not the file; the windows are those of the whole"
    import slicer_fastai.field.detect as D
    wave = np.concatenate([read_window(o, None) for o in scene[1].file.unique()])
    sf.write(tmp_path/'long.wav', wave, 16000)
    whole = detector.scores(tmp_path/'long.wav')
    heard = []
    real = D.embed
    monkeypatch.setattr(D, 'embed', lambda encoder, items, **kw: heard.append(len(items)) or real(encoder, items, **kw))
    monkeypatch.setattr(D, 'stretch_seconds', 30.)
    parts = detector.scores(tmp_path/'long.wav')
    assert parts.start.tolist()==whole.start.tolist() and len(heard)==4 and max(heard)<=len(whole)//4+1
    assert np.corrcoef(parts.bell, whole.bell)[0,1]>.9

def test_an_index_is_scored_as_its_files(detector, scene):
    files = list(scene[1].file.unique())
    direct = detector.scores(files, hop=.5, progress=False)
    index = detector.encoder.index(files, hop=.5)
    table = detector.scores(index)
    assert table.file.tolist()==direct.file.tolist()
    close(table[['start',*detector.labels]].to_numpy(float), direct[['start',*detector.labels]].to_numpy(float), 1e-3)
    assert len(detector.detect(index))
    with pytest.raises(ValueError, match='another encoder'): detector.scores(detector.encoder.untrained().index(files[:1]))
    with pytest.raises(ValueError, match='a vector a clip'): detector.scores(detector.encoder.index(files[:1], level='clip'))

def test_each_stretch_is_its_own_reference():
    "What all windows of a recording share, loud or soft, takes no part; a recording of seconds leans on the others"
    rng = np.random.default_rng(0)
    x,usual = rng.normal(size=(600,5)),(np.zeros(5),np.ones(5))
    starts = np.arange(600)*.5
    mean,spread = reference(x*3+100, starts, .95, usual)
    assert abs(mean-100*300/330).max()<2 and (spread>2.5).all()
    mean,spread = reference(x[:1]*3+100, starts[:1], .95, usual)
    assert abs(mean).max()<5 and (spread>.9).all() and (spread<1.1).all()

def test_windows_that_hold_a_bit_of_an_event_are_left_out(recordings):
    events = Events(dict(file=[str(recordings/'one.wav')], start=[5.], end=[6.], label=['owl']))
    table = labelled_windows(events, 1.)
    shared = np.minimum(6., table.start+1)-np.maximum(5., table.start)
    assert (table.owl==(shared>=.5)).all() and (table.partly==((shared>0)&(shared<.5))).all()
    assert table.even.sum()>=20 and {True,False}==set(table.partly)

@pytest.mark.parametrize('how', ['uncertain','diverse','top','random'])
def test_proposals(detector, scene, how):
    files = list(scene[1].file.unique())
    index = detector.encoder.index(files, hop=.5)
    places = detector.propose(index, 6, how)
    assert len(places)==6 and (places.end-places.start).round(4).eq(.95).all() and set(places.label)<=set(detector.labels)
    for _,part in places.groupby('file'): assert (np.diff(np.sort(part.start))>=2*.95-1e-6).all()
    scores = detector.scores(index)
    best = scores[detector.labels].max(axis=1)
    if how=='top': assert places.score.max()==best.max() and places.score.is_monotonic_decreasing
    if how=='uncertain': assert abs(places.score.iloc[0]-.5)==abs(best-.5).min()
    again = detector.propose(scores, 6, how)
    assert again.file.tolist()==places.file.tolist()
    close(again.start.to_numpy(), places.start.to_numpy(), 1e-6)

def test_diverse_places_are_not_alike():
    "Nine nearly equal places and two others: all three kinds are proposed"
    z = np.concatenate([np.tile([1.,0,0], (9,1)), [[0,1.,0]], [[0,0,1.]]])+np.random.default_rng(0).normal(size=(11,3))*.01
    assert set(far_apart(z, 3))=={0,9,10}
    assert len(far_apart(z[:2], 5))==2

def test_thresholds_are_kept_with_what_they_cost(detector, scene, tmp_path):
    files = scene[1].file.unique()
    annotated = scene[1][scene[1].file==files[3]]
    own = Detector.load(detector.save(tmp_path/'d'))
    table = own.calibrate([files[3]], annotated, precision=.5)
    assert {o:own.thresholds[o] for o in table.index}==table.threshold.to_dict()
    found = own.detect([files[3]])
    result = evaluate_events(found, annotated, recordings=[files[3]])
    for label in own.labels:
        mine = (found.label==label).to_numpy()
        close(result.right[mine].mean(), table.precision[label], 1e-9)
        close(result.right[mine].sum()/(annotated.label==label).sum(), table.recall[label], 1e-9)
    again = Detector.load(own.save(tmp_path/'e'))
    assert again.thresholds==own.thresholds and again.how['calibrated'].keys()==own.how['calibrated'].keys()

def test_hysteresis_and_neighbours(detector):
    "An event lasts while the score stays above half of its peak, also below the threshold; neighbours are merged on demand"
    values = [0,.3,.5,.9,.5,.3,0,.6,0,0,0,0]
    scores = pd.DataFrame(dict(file='a.wav', start=np.arange(12.), seconds=1., owl=values))
    one,two = find_events(scores, .55).itertuples()
    assert (one.start,one.end,one.score)==(2.,5.,.9) and (two.start,two.end)==(7.,8.)
    merged = detector.detect(scores, .55, max_gap=2.)
    assert merged[['start','end','score']].to_numpy().tolist()==[[2.,8.,.9]]
    assert detector.detect(scores, .55, min_seconds=2.).start.tolist()==[2.]

def test_an_event_as_long_as_the_recording_is_not_right():
    "Any overlap used to be enough: one event over all of it had precision 1; now it has to begin with a call"
    calls = Events(dict(file='a.wav', start=[5.,20.,40.], end=[6.,21.,43.], label='owl'))
    giant = Events(dict(file='a.wav', start=[0.], end=[60.], label=['owl'], score=[1.]))
    assert evaluate_events(giant, calls).average_precision('owl')==0
    assert evaluate_events(giant, calls, collar=None).average_precision('owl')==1/3
    near = calls.assign(start=calls.start+[.95,-.95,1.05], score=1.)
    assert evaluate_events(near, calls).right.tolist()==[True,True,False]
    scores = pd.DataFrame(dict(file='a.wav', start=np.arange(60.), seconds=1., owl=.6))
    detector = Detector(None, ['owl'], np.zeros((2,1)), np.zeros(1))
    with pytest.warns(UserWarning, match='owl: no threshold'): detector.calibrate(scores, calls, precision=.9)

@pytest.mark.parametrize('collar', [.2,.5,1.,None])
@pytest.mark.parametrize('seed', range(5))
def test_as_many_pairs_as_can_be_at_every_threshold(seed, collar):
    "A largest matching of all found events above each threshold, by SciPy (benchmarks/sed_scores.py has sed_scores_eval's own curve beside it)"
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from benchmarks.sed_scores import random_events
    found,annotated = random_events(seed)
    found['end'] += np.random.default_rng(seed).uniform(0, 4, len(found))    # some overlap several
    right,partner = match_events(found, annotated, collar)
    a,b = found.to_records(),annotated.to_records()
    shared = np.minimum.outer(a.end, b.end)-np.maximum.outer(a.start, b.start)
    near = (shared>0 if collar is None else abs(np.subtract.outer(a.start, b.start))<=collar) & np.equal.outer(a.file, b.file)
    assert near.any(0).sum()>10 and (collar==.2 or near.sum(0).max()>1)
    order = np.argsort(-found.score.to_numpy(), kind='stable')
    for n in range(1, len(order)+1):
        pairs = maximum_bipartite_matching(csr_matrix(near[order[:n]]), perm_type='column')
        assert (pairs>=0).sum()==right[order[:n]].sum()
    used = partner[right]
    assert len(set(used))==len(used) and near[np.flatnonzero(right),used].all() and (partner[~right]==-1).all()

def test_unreadable_recording(detector, scene, tmp_path):
    (tmp_path/'bad.wav').write_text('no sound')
    with pytest.warns(UserWarning, match='skipped.*bad.wav'): t = detector.scores([tmp_path/'bad.wav', scene[1].file[0]], progress=False)
    assert t.file.nunique()==1
    with pytest.raises(AudioReadError, match='bad.wav'): detector.scores([tmp_path/'bad.wav'], errors='raise')

@pytest.mark.parametrize('change', [dict(labels=['a']), dict(weights='x'), dict(bias=None), dict(usual=[[1.]]), dict(thresholds={}), dict(thresholds=[1])])
def test_damaged_detector_is_named(detector, tmp_path, change):
    fn = detector.save(tmp_path/'d')/'detector.json'
    fn.write_text(json.dumps({**json.loads(fn.read_text()), **change}))
    with pytest.raises(ValueError, match='detector.json'): Detector.load(tmp_path/'d')

def test_checked_places_are_learned(detector, scene):
    path,annotated = scene
    new = annotated[annotated.file==annotated.file.unique()[3]].assign(checked=True)
    new.loc[new.index[0], 'label'] = ''
    better = detector.learn_from(new)
    assert len(better.training)>len(detector.training) and better.labels==detector.labels
    assert len(better.training.file.unique())==4

def test_what_was_checked_counts_more_than_what_was_assumed(detector, scene):
    "A call that the table had missed was background, and a place with no call may have had its label: neither stays"
    from slicer_fastai.field.detect import superseded
    windows = pd.DataFrame(dict(file=['a']*4+['b'], start=[0.,1.,2.,3.,1.], owl=[False,False,True,True,False], fox=False))
    checked = Events(dict(file='a', start=[1.2,3.1], end=[1.8,3.5], label=['fox','']))
    assert superseded(windows, ['owl','fox'], checked, .95).tolist()==[False,True,False,True,False]
    own = scene[1][scene[1].file==detector.training.file[0]]
    better = detector.learn_from(own[:1].assign(checked=True, label=''))
    start,end = own.start.iloc[0],own.end.iloc[0]
    t = better.training[(better.training.file==own.file.iloc[0]) & (better.training.start<end) & (better.training.start+.95>start)]
    assert len(t) and not t[better.labels].to_numpy().any()

def test_only_what_was_heard_and_said_teaches():
    "Who names a fox says nothing of wolves, but that it is not the owl that was proposed; what lies beside a place was not heard"
    from slicer_fastai.field.detect import heard, not_said
    windows = pd.DataFrame(dict(file='a', start=[0.,.2,1.,5.], fox=[True,True,False,False], owl=False, wolf=False))
    places = Events(dict(file='a', start=[0.,5.], end=[.95,5.95], label=['fox',''], found=['owl','fox']))
    assert heard(windows, places, .95).tolist()==[True,False,False,True]
    assert not_said(windows, ['fox','owl','wolf'], places, .95).fillna(-1).to_numpy().tolist()==[[1,0,-1],[1,0,-1],[0,0,0],[0,0,0]]
    assert not_said(windows, ['fox','owl','wolf'], places.drop(columns='found'), .95).owl.isna().tolist()==[True,True,False,False]

def test_a_class_that_nobody_spoke_of_is_learned_from_the_others(detector, scene):
    own = scene[1][scene[1].file==scene[1].file.unique()[3]]
    label = own.label.iloc[0]
    better = detector.learn_from(own[own.label==label].assign(checked=True))
    new = better.training[better.training.file==own.file.iloc[0]]
    assert len(new) and (new[label]==1).all() and new[[o for o in detector.labels if o!=label]].isna().all(axis=None)
    assert np.isfinite(better.weights).all() and better.how['windows']==len(better.training)

@pytest.mark.parametrize('at', ['begin','end'])
def test_a_short_place_at_the_edge_of_a_recording_teaches(detector, scene, at):
    file = scene[1].file.unique()[3]
    length = recording_seconds(file)
    start,end = (0.,.3) if at=='begin' else (length-.3,length)
    place = Events(dict(file=[file], start=[start], end=[end], label=['bell'], checked=[True]))
    new = detector.learn_from(place).training
    assert (new[new.file==file].bell==1).any()

def test_a_window_that_holds_nothing_weighs_more():
    from slicer_fastai.field.detect import window_weights
    assert window_weights(np.array([[0,0],[1,0],[0,math.nan]])).tolist()==[3,1,1]

def test_features_that_never_moved_do_not_decide():
    "A feature that is constant in all training recordings and alive elsewhere (of a dead unit) used to blow every score up to 0 or 1"
    from slicer_fastai.field.detect import sigmoid
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400,20))
    z[:,7] = rng.normal(size=400)*1e-6
    owl = z[:,0]>1
    table = pd.DataFrame(dict(file=np.repeat(['a','b'], 200), start=np.arange(400.), stretch=0, even=True, partly=False, owl=owl))
    detector = fit_windows(AudioEncoder.from_pretrained('slicer-small'), table, z, (np.zeros(20),np.ones(20)))
    new = rng.normal(size=(400,20))
    scores = sigmoid(new@detector.weights+detector.bias)[:,0]
    right = new[:,0]>1
    from sklearn.metrics import roc_auc_score
    assert roc_auc_score(right, scores)>.95, scores.round(2)[:20]

# --- the command ---

def test_slicer_detect_in_all_formats_and_parts(scene, detector, tmp_path, monkeypatch, capsys):
    "A saved detector finds the same in one process and in three, and each format is read back"
    from slicer_fastai.cli.detect import slicer_detect, CliError
    monkeypatch.chdir(tmp_path)
    detector.save('mine')
    whole = slicer_detect(scene[0], detector='mine', out='all.csv', scores='scores', review='page.html')
    assert 'all.csv' in capsys.readouterr().out and Path('page.html').stat().st_size>10_000
    parts = [slicer_detect(scene[0], detector='mine', out=f'{i}.csv', scores='scores', part=i, parts=3) for i in range(3)]
    assert sorted(pd.concat(parts).start)==sorted(whole.start)
    for format in ('raven','audacity'):
        slicer_detect(scene[0], detector='mine', out=format, format=format, scores='scores')
        back = read_annotations(format, recordings=scene[0], verbose=False)
        assert sorted(back.label)==sorted(whole.label)
        close(np.sort(back.start), np.sort(whole.start), 1e-3)
    slicer_detect(scene[0], detector='mine', out='all.selections.txt', scores='scores')     # Raven's, by its name
    assert 'Begin Time (s)' in Path('all.selections.txt').read_text().splitlines()[0]
    for out in ('events.txt','events.xlsx'):
        with pytest.raises(CliError, match='what is it to hold.*raven, audacity'): slicer_detect(scene[0], detector='mine', out=out, scores='scores')
    with pytest.raises(CliError, match='counted from 0'): slicer_detect(scene[0], detector='mine', part=3, parts=3)
    with pytest.raises(CliError, match='between 0 and 1'): slicer_detect(scene[0], detector='mine', threshold=2.)
