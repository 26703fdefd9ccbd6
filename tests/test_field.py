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
    with pytest.raises(ValueError, match='give paths relative to'): read(recordings/'list.csv', 'file,start,end,label\nelsewhere/one.wav,1,2,owl\n')

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
    read = []
    real = D.embed
    monkeypatch.setattr(D, 'embed', lambda encoder, items, **kw: read.extend(items) or real(encoder, items, **kw))
    again = detector.scores(files, folder=tmp_path, progress=False)
    assert read==files[1::2] and again.file.tolist()==whole.file.tolist()
    close(again[detector.labels].to_numpy(), whole[detector.labels].to_numpy(), 1e-5)

def test_unreadable_recording(detector, scene, tmp_path):
    (tmp_path/'bad.wav').write_text('no sound')
    with pytest.warns(UserWarning, match='skipped.*bad.wav'): t = detector.scores([tmp_path/'bad.wav', scene[1].file[0]], progress=False)
    assert t.file.nunique()==1
    with pytest.raises(AudioReadError, match='bad.wav'): detector.scores([tmp_path/'bad.wav'], errors='raise')

@pytest.mark.parametrize('change', [dict(labels=['a']), dict(weights='x'), dict(bias=None), dict(thresholds={}), dict(thresholds=[1])])
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
