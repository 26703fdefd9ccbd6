"Labelled windows of whole recordings: right labels, background, drawn in proportion, split by recording"
from conftest import *
import soundfile as sf
from slicer_fastai.data.annotated import draw_weights, label_windows

@pytest.fixture(scope='module')
def annotated(tmp_path_factory):
    "Six recordings of 20 s of faint noise; tones of 1 s: 'low' at 3 and 10 s, 'high' at 10.4 s; in the first also 'rare' at 17 s"
    d,sr = tmp_path_factory.mktemp('annotated'),16000
    rng,rows = np.random.default_rng(0),[]
    for i in range(6):
        x = rng.normal(size=20*sr)*.003
        events = [(3,'low',300), (10,'low',300), (10.4,'high',3000)]+[(17,'rare',1200)]*(i==0)
        for at,label,hz in events:
            x[int(at*sr):int(at*sr)+sr] += .3*np.sin(2*np.pi*hz*np.arange(sr)/sr)
            rows.append((f'{i}.wav', at, at+1, label))
        sf.write(d/f'{i}.wav', x, sr)
    return d,pd.DataFrame(rows, columns=['file','start','end','label'])

def loaders(recordings, table, **kwargs):
    return SlicerDataLoaders.from_annotations(recordings, table, **{'bs':8, 'num_workers':0, 'device':'cpu', **kwargs})

def windows(ds): return [(Path(o.name).stem, o.start, o.label) for o in ds.items]

def test_labels_of_windows():
    labels,touched = label_windows(np.arange(0, 6, .5), 1., [(1.,1.2,'tick'), (1.6,4.,'hum'), (1.1,1.3,'tick')])
    assert labels==[(),('tick',),('tick',),('hum',),('hum',),('hum',),('hum',),('hum',),(),(),(),()]
    assert touched.tolist()==[False,False,True]+[False]*9                                              # .6 of it is hum, less than half a window… of 1 s

def test_windows_have_the_labels_of_their_events_and_several_at_once(annotated):
    d,table = annotated
    dls = loaders(d, table)
    assert list(dls.vocab)==['high','low','rare']
    for ds in (dls.train_ds, dls.valid_ds):
        for i,(file,start,labels) in enumerate(windows(ds)):
            end = start+.95
            def heard(a): return min(end, a+1)-max(start, a)>=.475-1e-6
            want = {k for k,times in dict(low=[3,10], high=[10.4], rare=[17] if file=='0' else []).items() if any(map(heard, times))}
            assert set(labels)==want
            assert ds.targets([i])[0].tolist()==[float(o in want) for o in dls.vocab]
    assert any(len(o[2])==2 for o in windows(dls.train_ds)) and any(o[2]==() for o in windows(dls.train_ds))

def test_the_wave_is_that_of_the_window(annotated):
    d,table = annotated
    ds = loaders(d, table, level=None).train_ds
    for i in range(0, len(ds), 7):
        file,start,_ = windows(ds)[i]
        want = read_window(d/f'{file}.wav', .95, start=start)
        assert np.allclose(ds[i][0].numpy()[0], want, atol=1e-6)

def test_windows_that_an_event_only_touches_are_left_out(annotated):
    d,table = annotated
    for file,start,labels in windows(loaders(d, table).train_ds):
        if labels==(): assert all(start+.95<=a+1e-6 or start>=a+1-1e-6 for a in (3,10,10.4))

def test_validation_by_recording(annotated):
    d,table = annotated
    for seed in range(4):
        dls = loaders(d, table, seed=seed)
        a,b = [{o[0] for o in windows(ds)} for ds in (dls.train_ds, dls.valid_ds)]
        assert not a&b and len(a|b)==6 and '0' in a                                                   # the one with the rare class
    dls = loaders(d, table, valid_idx=[2])
    assert {o[0] for o in windows(dls.valid_ds)}=={'2'}
    assert {o[0] for o in windows(loaders(d, table, valid_idx=[str(d/'3.wav')]).valid_ds)}=={'3'}
    grouped = table.assign(group=table.file.map({f'{i}.wav':'abc'[i//2] for i in range(6)}))
    assert {o[0] for o in windows(loaders(d, grouped).valid_ds)} in ({'2','3'},{'4','5'})

def test_background_and_classes_are_drawn_in_proportion(annotated):
    d,table = annotated
    for background in (True,3.):
        dls = loaders(d, table, background=background)
        drawn = [dls.train_ds.items.labels[i] for _ in range(40) for i in dls.train.get_idxs()]
        share = {k:np.mean([k in o for o in drawn]) for k in ('low','high','rare')}
        empty = np.mean([o==() for o in drawn])
        assert abs(empty-background/(1+background))<.05
        assert share['rare']>.2*(1-empty)                                                             # 1 of 19 events
        events = sum(map(bool, dls.train_ds.items.labels))
        assert abs(len(dls.train.get_idxs())-events*(1+background))<=1
    dls = loaders(d, table, background=False)
    assert all(o for o in dls.train_ds.items.labels) and all(o for o in dls.valid_ds.items.labels)

def test_weights():
    w = draw_weights([('a',),('a',),('a','b'),(),()], 2.)
    assert np.isclose(w.sum(), 1) and np.isclose(w[3:].sum(), 2/3) and np.isclose(w[2], 3*w[0])

def test_the_same_seed_draws_the_same(annotated):
    d,table = annotated
    one,two = ([b[1].tolist() for b in loaders(d, table).train] for _ in range(2) if not random.seed(1))
    assert one==two

def test_recordings_without_a_row_are_told_or_background(annotated, tmp_path, capsys):
    d,table = annotated
    dls = loaders(d, table[table.file!='5.wav'])
    assert '1 recordings of' in capsys.readouterr().out and '5' not in {o[0] for ds in (dls.train_ds, dls.valid_ds) for o in windows(ds)}
    files = [str(d/f'{i}.wav') for i in range(6)]
    full = table[table.file!='5.wav'].assign(file=lambda o: [str(d/f) for f in o.file])
    dls = loaders(files, full, valid_idx=[1])
    assert {labels for file,_,labels in windows(dls.train_ds) if file=='5'}=={()}

def test_one_recording_validates_with_its_end(annotated, capsys):
    d,table = annotated
    dls = loaders(d, table[table.file=='0.wav'].query("label!='rare'"), valid_pct=.25)
    assert 'one recording only' in capsys.readouterr().out
    assert max(o[1] for o in windows(dls.train_ds))<min(o[1] for o in windows(dls.valid_ds))

def test_faults_are_named(annotated, tmp_path):
    d,table = annotated
    with pytest.raises(ValueError, match='no column of label'): loaders(d, table.drop(columns='label'))
    with pytest.raises(ValueError, match='neither ends nor lengths'): loaders(d, table.drop(columns='end'))
    with pytest.raises(ValueError, match='overlap=0'): loaders(d, table, overlap=0)
    with pytest.raises(ValueError, match='1 of 7 recordings cannot be read.*gone.wav'):
        loaders(d, pd.concat([table, table.iloc[:1].assign(file='gone.wav')]))

def test_first_contact(annotated):
    "The line of the README: a learner of annotated recordings tells tones apart, and background from both"
    d,table = annotated
    table.to_csv(d/'events.csv', index=False)
    learn = audio_learner(loaders(d, read_annotations(d/'events.csv', verbose=False)), 'slicer-small')
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(2)
    probs,y = learn.get_preds()
    assert ((probs>.5).float()==y)[:,:2].float().mean()>.9
    silence = learn.predict(np.random.default_rng(5).normal(size=15200).astype(np.float32)*.003, sr=16000)
    assert list(silence[0])==[]
