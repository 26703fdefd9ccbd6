"HEAR's interface: what its validator asks of a PyTorch model, for several kinds of network"
from conftest import *
import slicer_fastai.export.hear as hear

class Vectors(nn.Module):
    "A network without an order in time"
    def __init__(self): super().__init__(); self.lin = nn.Linear(64, 12)
    def forward(self, x): return self.lin(x.mean(-1)[:,0])

def wide(): return AudioEncoder('audiontt', d=16, width=2)
def levelled(): return AudioEncoder('audiontt', d=16, width=2, layers='top', pool='max+mean', front=FrontEnd(sr=22050, level=None, duration=1.1))
def vectors(): return AudioEncoder(Vectors(), layers='top')

@pytest.mark.parametrize('make', [wide, levelled, vectors])
def test_as_the_validator_asks(make):
    m = hear.HearModel(make())
    assert m.sample_rate in (16000,22050,44100,48000) and all(type(o) is int for o in (m.scene_embedding_size,m.timestamp_embedding_size))
    z,at = hear.get_timestamp_embeddings(torch.rand(16, 2*m.sample_rate)*2-1, m)
    assert z.dtype==torch.float32 and z.shape==(16,at.shape[1],m.timestamp_embedding_size) and at.shape[0]==16
    d = at.diff().float()
    assert d.mean()<=50 and ((d-d.mean()).abs()<1e-3).all(), d
    e = hear.get_scene_embeddings(torch.rand(8, int(3.74*m.sample_rate))*2-1, m)
    assert e.dtype==torch.float32 and e.shape==(8,m.scene_embedding_size) and e.isfinite().all()

def test_sounds_of_a_batch_do_not_meet():
    "One by one is as together, for both kinds of vector"
    m = hear.HearModel(wide()); w = torch.rand(3, 40000)-.5
    (z,_),e = hear.get_timestamp_embeddings(w, m),hear.get_scene_embeddings(w, m)
    for i in range(3):
        close(z[i], hear.get_timestamp_embeddings(w[i:i+1], m)[0][0], 1e-4)
        close(e[i], hear.get_scene_embeddings(w[i:i+1], m)[0], 1e-4)

def test_loads_a_folder_and_the_shipped_one(tmp_path):
    f = wide().save_pretrained(tmp_path/'e')
    assert hear.load_model(str(f)).scene_embedding_size==wide().num_features
    assert hear.load_model().sample_rate==16000

def test_a_rate_hear_does_not_know():
    enc = AudioEncoder('audiontt', d=8, width=1, front=FrontEnd(sr=8000, f_max=3900.))
    with pytest.raises(ValueError, match='takes 8000'): hear.HearModel(enc)
