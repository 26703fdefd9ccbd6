"A network on 64 mel bands, read at 129"
from conftest import *
from slicer_fastai.audio.synth import sound_classes, synth_sound, synth_sounds
import onnxruntime as ort
ort.set_default_logger_severity(3)

@pytest.fixture(scope='module')
def small(): return AudioEncoder.from_pretrained('slicer-small')

@pytest.fixture(scope='module')
def fine(small): return small.finer()

def test_only_the_log_mel_differs(small, fine):
    "Clips of all kinds, among them silence: the network's numbers are those of before"
    clips = [np.asarray(synth_sound(kind)[0]) for kind in sorted(sound_classes)[:6]]+[np.zeros(30000, np.float32)]
    a,b = embed(small, clips, sr=16000),embed(fine, clips, sr=16000)
    at,at_fine = 2688-128,2688-128+258
    assert np.abs(a[:,:at]-b[:,:at]).max()<1e-3 and np.abs(a[:,2688:]-b[:,at_fine:]).max()<1e-3

def test_half_precision_hears_the_same(fine):
    x = fine.front(torch.randn(2,1,15200)*.1)
    with torch.autocast('cpu', torch.bfloat16): y = fine(x)
    assert (y-fine(x)).abs().max()<.2

def test_onnx(fine, tmp_path):
    wave = np.random.default_rng(0).normal(size=(2,40000)).astype(np.float32)*.1
    session = ort.InferenceSession(fine.export_onnx(tmp_path/'fine.onnx'))
    close(session.run(None, {'wave':wave})[0], fine.embed(list(wave), sr=16000), 1e-3)

def test_a_card_says_it(small, fine):
    from slicer_fastai.export.hub import encoder_rows
    assert 'merged into 64' in encoder_rows(fine)['input'] and 'merged' not in encoder_rows(small)['input']

def test_an_index_keeps_it(fine, tmp_path):
    files = get_audio_files(synth_sounds(2, path=tmp_path/'sounds'))
    fine.index(files).save(tmp_path/'index')
    back = SoundIndex.load(tmp_path/'index')
    assert back.encoder.net_mels==64
    assert np.abs(back.vectors-fine.index(files).vectors).max()<1e-3

@pytest.mark.parametrize('arch', ['finer','new'])
def test_trains(small, arch, files, loaders):
    "From the weights of an encoder that is read so, and from nothing"
    front = FrontEnd() if arch=='finer' else FrontEnd(n_mels=129)
    dls = loaders(files[::3], front=front)
    learn = SlicerLearner(dls, small.finer()) if arch=='finer' else SlicerLearner(dls, arch_kwargs=dict(d=16, width=4, net_mels=64))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert learn.encoder.net_mels==64 and np.isfinite(learn.recorder.values[-1][0])

def test_two_side_by_side(small):
    from benchmarks.slicer_base import joined
    other = small.untrained()
    both = joined(small, other)
    x = small.front(torch.randn(2,1,15200)*.1)
    for name,a,b,y in zip(small.layers, small.parts(x), other.parts(x), both.parts(x)):
        if name.startswith('conv'):                                      # mel × channel
            a,b,y = a.unflatten(-1, (-1,32)),b.unflatten(-1, (-1,32)),y.unflatten(-1, (-1,64))
        assert torch.allclose(y, a if name=='logmel' else torch.cat([a,b], -1), atol=1e-4)

def test_another_normalisation(small):
    "Away from the edges the first convolution hears as before"
    from benchmarks.slicer_base import renormalised
    other = deepcopy(small)
    renormalised(other, NormalizeSpec(-8., 5.))
    x = torch.randn(2,1,64,96)*4-9
    a,b = (enc.body.conv[0][0](enc.norm(x)) for enc in (small,other))
    assert torch.allclose(a[...,1:-1,1:-1], b[...,1:-1,1:-1], atol=1e-3)
