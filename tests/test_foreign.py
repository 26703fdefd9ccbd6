"A function from waves to vectors takes the place of an encoder"
from conftest import *
from slicer_fastai.use.embed import embed
import soundfile as sf

mel = LogMel(8000, n_mels=20, f_max=None)
given = []
def statistics(waves):
    "Mean and spread of 20 mel bands; notes what it was given"
    given.append(waves)
    spec = mel.compute(torch.from_numpy(waves))
    return np.concatenate([spec.mean(-1).numpy(), spec.std(-1).numpy()], -1)

@pytest.fixture
def enc():
    e = as_encoder(statistics, sr=8000, seconds=.5, dim=40)
    given.clear()
    return e

def test_vectors_are_those_of_the_function(enc, files):
    "Resampled, cut into windows side by side, the mean over windows"
    got = enc.embed(files[:5])
    for fn,row in zip(files, got):
        x = read_window(fn, None, 8000)
        want = statistics(np.stack([pad_to(x[i:i+4000], 4000) for i in enc.front.starts(len(x))])).mean(0)
        assert np.abs(row-want).max()<1e-3
    assert got.dtype==np.float32 and {o.dtype for o in given}=={np.dtype('float32')} and {o.shape[1] for o in given}=={4000}

def test_batches_do_not_matter(enc, files):
    assert np.abs(enc.embed(files[:6], bs=1)-enc.embed(files[:6], bs=64)).max()<1e-4
    assert max(len(o) for o in given)>1

def test_windows_and_frames(enc, files):
    n = len(enc.front.starts(Clip(files[0], 8000).n))
    assert [o.shape for o in (enc.embed(files[:1], 'window')[0], enc.embed(files[:1], 'frame')[0])]==[(n,40)]*2

def test_it_searches_probes_and_learns_from_few(enc, files, tmp_path):
    index = enc.index(files)
    assert index.search(read_window(files[7], None, 8000), sr=8000, k=1).file[0]==str(files[7])
    labels = [f.parent.name for f in files]
    probe = linear_probe(enc, (files[::2], labels[::2]), (files[1::2], labels[1::2]))
    assert float(probe)>.15                                              # 18 kinds: chance is .06
    assert float(knn_probe(enc, (files[::2], labels[::2]), (files[1::2], labels[1::2])))>.12
    few = few_shot({'statistics':enc}, (files[::2], labels[::2]), (files[1::2], labels[1::2]), shots=(1,'all'), seeds=2)
    assert len(few.table)>0

def test_it_stands_beside_ours_in_comparisons(enc, files, tmp_path):
    split = np.where(np.arange(len(files))%2, 'test', 'train')
    table = pd.DataFrame(dict(file=files.map(str), label=[f.parent.name for f in files], split=split))
    ours = AudioEncoder('audiontt', **encoder_kw)
    compared = compare_encoders({'statistics':enc, 'ours':ours}, dict(kinds=table))
    assert set(compared.results)=={'statistics','ours','untrained','mean + std of log-mels'}
    alone = compare_encoders(enc, dict(kinds=table))
    assert float(alone.results['encoder']['kinds'])==float(compared.results['statistics']['kinds'])>.15
    marks = benchmark({'statistics':enc}, {'kinds':table.assign(split=np.where(np.arange(len(files))%3==2, 'valid', split))}, out=tmp_path/'b.json')
    assert (tmp_path/'b.json').exists() and 'statistics' in str(marks)

def test_an_index_asks_for_its_function(enc, files, tmp_path):
    index = enc.index(files[:20])
    index.save(tmp_path/'i')
    with pytest.raises(ValueError, match='saved without its encoder: give it'): SoundIndex.load(tmp_path/'i')
    again = SoundIndex.load(tmp_path/'i', enc)
    assert np.array_equal(again.vectors, index.vectors)
    def other(waves): return statistics(waves)
    with pytest.raises(AudioReadError, match='another encoder'): SoundIndex.load(tmp_path/'i', as_encoder(other, 8000, .5, 40))

def test_it_detects(tmp_path):
    "Tones of 2 kHz in noise, marked in one recording, found in another"
    rng,sr = np.random.default_rng(0),16000
    places = [(a, a+1.) for a in (3.,9.,15.,21.,27.)]
    for name in ('a','b'):
        x = .02*rng.standard_normal(32*sr)
        for a,b in places: x[int(a*sr):int(b*sr)] += .3*np.sin(2*np.pi*2000*np.arange(sr)/sr)
        sf.write(tmp_path/f'{name}.wav', x, sr)
    table = pd.DataFrame([(str(tmp_path/'a.wav'), a, b, 'tone') for a,b in places], columns=['file','start','end','label'])
    detector = as_encoder(statistics, 8000, .5, 40).detector(table)
    events = detector.detect(str(tmp_path/'b.wav'))
    found = [any(min(b, e.end)-max(a, e.start)>.5 for e in events.itertuples()) for a,b in places]
    assert all(found) and len(events)<=7

def test_a_module_is_given_tensors_in_evaluation_mode(files):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin,self.drop = nn.Linear(4000, 12),nn.Dropout(.5)
        def forward(self, x):
            assert isinstance(x, torch.Tensor) and not self.training and not torch.is_grad_enabled()
            return self.drop(self.lin(x))
    net = Net()
    enc = as_encoder(net, 8000, .5, 12)
    a = enc.embed(files[:3])
    assert a.shape==(3,12) and np.array_equal(a, enc.embed(files[:3]))
    twin = enc.untrained(1)
    assert np.abs(twin.embed(files[:3])-a).max()>1e-3 and np.array_equal(a, enc.embed(files[:3]))

@pytest.mark.parametrize('f,why', [(lambda x: x[:,:7], r'returns \(2, 7\) for 2 waves: it has to return \(2, 8\)'),
    (lambda x: x[0,:8], r'returns \(8,\)'), (lambda x: x[:,:8]*np.nan, 'NaN'), (3, 'is not a function')])
def test_what_is_no_encoder_is_refused_at_once(f, why):
    with pytest.raises(ValueError, match=why): as_encoder(f, 8000, .5, 8)

def test_what_a_function_cannot_do_is_said(enc, tmp_path, loaders):
    with pytest.raises(ValueError, match='statistics is a function, which is not saved'): enc.save_pretrained(tmp_path/'e')
    with pytest.raises(ValueError, match='no untrained twin'): enc.untrained()
    with pytest.raises(ValueError, match='cannot be trained here'): enc.set_front(FrontEnd())
