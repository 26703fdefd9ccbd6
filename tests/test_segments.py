"Long recordings as segments"
from conftest import *
import pickle, soundfile as sf
from slicer_fastai.data.segments import Places, levels, segments, split_by_group
from slicer_fastai.use.embed import with_surroundings


def tones(path, seconds, sr=16000, step=10):
    "A recording whose frequency says which ten seconds of it one hears: 200 Hz, 400 Hz, …"
    t = np.arange(int(seconds*sr))/sr
    sf.write(path, .3*np.sin(2*np.pi*200*(1+t//step)*t), sr, subtype='PCM_16')
    return path

@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    d = tmp_path_factory.mktemp('recordings')
    for i in range(4): tones(d/f'long{i}.wav', 65)
    for i in range(3): tones(d/f'short{i}.wav', 3)
    return d

def frequency(wave, sr=16000): return np.abs(np.fft.rfft(wave*np.hanning(len(wave)))).argmax()*sr/len(wave)

def folder_loaders(path, **kwargs): return SlicerDataLoaders.from_folder(path, bs=4, num_workers=0, device='cpu', **kwargs)

def test_long_recordings_are_cut_by_default_and_it_is_said_once(recordings, capsys):
    dls = folder_loaders(recordings)
    said = capsys.readouterr().out
    assert said.count('\n')==1 and '4 of 7 recordings longer than 30 s' in said and '31 clips' in said
    assert len(dls.train_ds)+len(dls.valid_ds)==4*7+3
    assert len(folder_loaders(recordings, segment=None).train_ds)<7
    assert capsys.readouterr().out==''

def test_short_recordings_stay_files(tmp_path, capsys):
    for i in range(4): tones(tmp_path/f'{i}.wav', 3)
    assert isinstance(folder_loaders(tmp_path).train_ds.items[0], Path) and capsys.readouterr().out==''

def test_two_windows_of_a_clip_come_from_one_segment(recordings):
    dls = folder_loaders(recordings, segment=10., level=None)
    for _ in range(3):
        for i in range(len(dls.train_ds)):
            waves = dls.train_ds[i][0]
            clip = dls.train_ds.clips([i])[0]
            here = [200*(1+np.floor((clip.start+o)/10)) for o in (0,clip.seconds-.01)]
            for wave in waves.numpy(): assert min(abs(frequency(wave)-o) for o in here)<15

def test_an_epoch_is_all_segments_and_recordings_are_on_one_side(recordings):
    dls = folder_loaders(recordings, segment=5., valid_pct=.3)
    sides = [{o.name for o in ds.clips(range(len(ds)))} for ds in (dls.train_ds, dls.valid_ds)]
    assert not sides[0]&sides[1] and len(sides[0]|sides[1])==7
    assert sum(len(b[0]) for b in dls.train.new(drop_last=False))==len(dls.train_ds)

def test_places_of_segments_cover_each_recording_once(recordings):
    files = get_audio_files(recordings)
    s = segments(files, 10)
    for i,f in enumerate(files):
        mine = s.which==i
        assert s.start[mine][0]==0
        ends = s.start[mine]+s.seconds[mine]
        assert np.allclose(ends[:-1], s.start[mine][1:]) and abs(ends[-1]-Clip(f).seconds)<1e-3

def test_one_recording_validates_with_its_end(tmp_path, capsys):
    tones(tmp_path/'one.wav', 120)
    dls = folder_loaders(tmp_path)
    assert 'its last 1 of 12' in capsys.readouterr().out
    assert dls.valid_ds.clips([0])[0].start==110 and len(dls.train_ds)==11

def test_labelled_segments_keep_the_label_of_their_recording(recordings):
    dls = folder_loaders(recordings, label_func=lambda o: o.stem[:-1], segment=10., seed=1)
    for ds in (dls.train_ds, dls.valid_ds):
        for i in range(len(ds)): assert ds.clips([i])[0].name.split('/')[-1].startswith(dls.vocab[ds[i][1]])

def test_the_quietest_are_left_out_and_counted(tmp_path, capsys):
    noise = np.random.default_rng(0).normal(size=(10,160000))*.1
    noise[[2,7]] = 0
    noise[4] *= .01
    for i in range(2): sf.write(tmp_path/f'{i}.flac', noise.ravel(), 16000)
    dls = folder_loaders(tmp_path, quietest=.3, valid_pct=.5)
    assert '6 of 20 segments left out' in capsys.readouterr().out
    assert {o.start/10 for o in dls.train_ds.clips(range(len(dls.train_ds)))}=={0,1,3,5,6,8,9}

def test_an_unreadable_recording_is_one_place(recordings, tmp_path):
    (tmp_path/'text.wav').write_text('not a sound'*5000)
    s = segments([tmp_path/'text.wav', *get_audio_files(recordings)], 10, longer=30)
    assert len(s)==32 and np.isnan(s.seconds[0])

def test_workers_and_state_of_places(recordings):
    s = segments(get_audio_files(recordings), 10)
    again = pickle.loads(pickle.dumps(s))
    assert str(again[9])==str(s[9]) and len(again)==len(s)
    dls = SlicerDataLoaders.from_folder(recordings, bs=4, num_workers=2, device='cpu')
    assert len(dls.one_batch()[0])==4

def test_bad_settings_are_named(recordings):
    with pytest.raises(ValueError, match='seconds=-1'): folder_loaders(recordings, segment=-1)
    with pytest.raises(ValueError, match='quietest=2'): folder_loaders(recordings, quietest=2)
    with pytest.raises(ValueError, match='segment=10'): folder_loaders(recordings, segment=None, quietest=.1)

@pytest.mark.parametrize('start,seconds,begin', [(3.,.2,3.1-.475), (0.,.2,0.), (6.9,.1,7-.95), (6.8,None,7-.95), (2.,3.,None)])
def test_a_short_place_is_heard_with_its_surroundings_everywhere(tmp_path, start, seconds, begin):
    "Training, validation, embedding and fine-tuning cut the same window around a place that is shorter than it"
    rng = np.random.default_rng(0)
    for name in 'ab': sf.write(tmp_path/f'{name}.wav', .1*rng.normal(size=7*16000), 16000, subtype='FLOAT')
    place = Clip(tmp_path/'a.wav', start=start, seconds=seconds)
    front = FrontEnd(level=None)
    read = ReadAudio(front)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        clip, = with_surroundings([place], front.duration)
    if begin is None:
        assert clip is place and len(front.read(place, [0,1]))==2
        return
    want = read_window(tmp_path/'a.wav', front.duration, start=begin)
    assert len(want)==front.n_samples
    for got in (read_window(clip, front.duration), front.read(place)[0].numpy(), front.read(place, 0.)[0].numpy(), read(place, split_idx=0)[0].numpy(),
                read(place, split_idx=1)[0].numpy()):
        assert len(got)==len(want) and np.abs(got-want).max()<1e-5
    ds = SlicerDataLoaders.from_lists(tmp_path, [place]*3+[tmp_path/'b.wav'], valid_idx=[2,3], front=front, bs=2, num_workers=0, device='cpu')
    for got in (ds.train_ds[0][0], ds.valid_ds[0][0]): assert np.abs(got[0].numpy()-want).max()<1e-5
    if seconds:
        t = pd.DataFrame(dict(file=['a.wav']*2+['b.wav']*2, start=start, end=start+seconds, label=['x','y']*2))
        dls = SlicerDataLoaders.from_df(t, tmp_path, label_col='label', front=front, bs=2, num_workers=0, device='cpu', valid_idx=[2,3])
        assert np.abs(dls.train_ds[0][0][0].numpy()-want).max()<1e-5

def test_segments_of_a_pack_that_are_shorter_than_a_window_have_their_surroundings(tmp_path):
    rng = np.random.default_rng(0)
    for name in 'ab': sf.write(tmp_path/f'{name}.wav', .1*rng.normal(size=4*16000), 16000, subtype='PCM_16')
    pack = pack_audio(tmp_path, tmp_path/'p', segment=.5)
    assert len(pack)==16
    front = FrontEnd(level=None)
    for i,begin in ((0,0.), (3,1.75-.475), (7,4-.95), (8,0.), (12,2.25-.475)):
        want = read_window(tmp_path/('a.wav' if i<8 else 'b.wav'), .95, start=begin)
        assert np.abs(pack.windows([i], front.n_samples)[0]-want).max()<1e-4
        assert np.abs(front.read(pack[i])[0].numpy()-want).max()<1e-4
