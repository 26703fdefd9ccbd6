"The encoders that come with the library"
from conftest import *
from slicer_fastai.audio.synth import sound_classes, synth_sound

@pytest.fixture(scope='module')
def small(): return AudioEncoder.from_pretrained('slicer-small')

@pytest.mark.parametrize('name,most', [('slicer-small',1e6),('slicer-base',3.5e6)])
def test_is_small_and_whole(name, most):
    folder,enc = shipped(name),AudioEncoder.from_pretrained(name)
    assert {f.name for f in folder.iterdir()}=={'config.json','model.safetensors','README.md'}
    assert sum(f.stat().st_size for f in folder.iterdir())<most
    assert not enc.training and all(p.isfinite().all() for p in enc.state_dict().values())

@pytest.mark.parametrize('name', ['slicer-small','slicer-base'])
def test_hears_more_than_untrained(name, tmp_path):
    "Sounds that it was not trained on: neighbours agree in kind more often than for two untrained twins, by more than chance (95 %)"
    fs = get_audio_files(synth_sounds(n=20, path=tmp_path/'set', seed=5))
    y = np.array(fs.map(parent_label))
    tr = np.arange(len(fs))%2==0
    def knn(e):
        z = e.embed(fs)
        return knn_probe(None, (z[tr],y[tr]), (z[~tr],y[~tr]))
    enc = AudioEncoder.from_pretrained(name)
    ours = knn(enc)
    for seed in range(2):
        gain,low,_ = ours.minus(knn(enc.untrained(seed)))
        assert low>0, (ours, gain, low)

def test_is_the_default_of_audio_learner(loaders, files):
    fs = files[::3]
    learn = audio_learner(loaders(fs, labels=fs.map(parent_label)))
    want = AudioEncoder.from_pretrained('slicer-small').state_dict()
    assert all(torch.equal(v, want[k]) for k,v in learn.model.encoder.state_dict().items())

def test_a_folder_of_that_name_comes_first(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    AudioEncoder('audiontt', **encoder_kw).save_pretrained('slicer-small')
    assert AudioEncoder.from_pretrained('slicer-small').num_features!=small.num_features

def test_old_name_keeps_the_old_vectors(small):
    "What was `slicer-small` in 0.0.2: the same weights without changes; its vectors begin the new ones"
    old = AudioEncoder.from_pretrained('slicer-small@0.0.2')
    assert old.changes=={} and old.num_features==2688
    fs = [np.random.default_rng(i).normal(size=20000).astype(np.float32)*.1 for i in range(3)]
    a,b = embed(old, fs, sr=16000),embed(small, fs, sr=16000)
    assert np.allclose(a, b[:,:2688], atol=1e-5) and b.shape[1]==3712

#: Four projections of the vectors of ten synthesised sounds: what an index of today was made with
vectors_of_today = {'slicer-small':[
    [.649, -.086, -.124, .709], [.395, -.165, -.536, .756], [1.189, .177, -1.268, .461], [1.773, -.008, -.216, .988],
    [1.494, .129, -.652, 1.305], [1.575, -.219, -1.617, .658], [.85, -.551, -.456, .701], [1.261, .046, -1.379, .456],
    [1.274, -.568, -.332, .424], [1.327, -.391, -.885, .724]],
    'slicer-base':[
    [.12, .453, -.267, .357], [.858, .178, -.225, .07], [1.085, -.277, .02, .542], [.177, -.321, -.357, .154], [.821, -.036, .207, -.198],
    [1.87, -.711, -.021, .725], [.647, .064, -.27, .125], [1.049, -.165, -.18, -.052], [.976, .658, -.343, -.322], [.784, -.654, .077, -.247]]}

@pytest.mark.parametrize('name', vectors_of_today)
def test_the_encoder_has_not_moved(name):
    "Old indexes keep their meaning: another network, reading or front end under this name would show here"
    clips = [np.asarray(synth_sound(kind)[0]) for kind in sorted(sound_classes)[:10]]
    x = embed(AudioEncoder.from_pretrained(name), clips, sr=16000)
    directions = np.random.default_rng(0).normal(size=(x.shape[1], 4))/x.shape[1]**.5
    assert np.abs(x@directions-np.array(vectors_of_today[name])).max()<.005
