"What onnxruntime answers is what torch answers"
from conftest import *
from slicer_fastai.export.onnx import *
import onnxruntime as ort
ort.set_default_logger_severity(3)

def run(fn, x): s = ort.InferenceSession(fn); return s.run(None, {s.get_inputs()[0].name:x})[0]

def test_other_level_padding_rate_and_pooling(tmp_path):
    "Batches of 1 and 7, from 0.2 to 60 s, around each edge of the rule for windows"
    front = FrontEnd(sr=8000, f_max=3900., level='rms', pad='repeat', duration=.8)
    enc = AudioEncoder('audiontt', d=16, width=2, layers='top conv2', pool='max+mean', front=front).eval()
    s,n = ort.InferenceSession(enc.export_onnx(tmp_path/'e.onnx')),enc.front.n_samples
    for b in (1,7):
        for m in (1600, n-1, n, n+n//4, n+n//4+1, 480000):
            w = np.random.default_rng(m).normal(size=(b,m)).astype('float32')*.1
            close(s.run(None, {'wave':w})[0], enc.embed(list(w), sr=8000), 1e-4)

def test_network_of_timm_that_takes_log_mels(tmp_path):
    enc = AudioEncoder('test_resnet', layers='top').eval()
    z = torch.randn(3, 1, 64, 130)-8
    with torch.no_grad(): close(run(enc.export_onnx(tmp_path/'t.onnx', input='logmel'), z.numpy()), enc(z), 1e-4)

def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    enc = AudioEncoder('audiontt', d=8, width=1)
    monkeypatch.setattr(FrontEnd, 'kind', 'mine')
    with pytest.raises(ValueError, match="front end 'mine' cannot be exported"): enc.export_onnx(tmp_path/'x.onnx')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r'slicer_fastai\[onnx\]'): enc.export_onnx(tmp_path/'x.onnx', input='logmel')
    assert not list(tmp_path.iterdir())
