"What an embedding is read from: layers, and how much they change over time"
from conftest import *
from slicer_fastai.models.encoder import mean_square_change
import json

def close(a, b, eps=1e-5): assert torch.allclose(torch.as_tensor(a), torch.as_tensor(b), atol=eps), (a, b)

def old_reading(enc):
    "The same network, read as in 0.0.2"
    res = AudioEncoder(enc.arch, front=enc.front, layers=enc.layers, pool=enc.pool, **enc.kwargs)
    res.load_state_dict(enc.state_dict())
    return res.eval()

@pytest.fixture
def enc(): return AudioEncoder('audiontt', **encoder_kw).eval()

def test_change_is_the_mean_square_difference():
    y = torch.tensor([0.,1.,3.,3.])[:,None]
    close(mean_square_change(y, 1), tensor([(1+4+0)/3]))
    close(mean_square_change(y, 2), tensor([(9+4)/2]))
    close(mean_square_change(y, 9), tensor([9.]))                  # fewer frames than steps: first and last
    close(mean_square_change(y[:1], 2), tensor([0.]))              # nothing to compare with

def test_default_reading_goes_on_from_the_old_one(enc):
    "What was read before comes first, unchanged; changes follow"
    x = torch.randn(3,1,64,96)
    old = old_reading(enc)
    assert old.changes=={} and enc.changes=={'fc1':(3,6)}
    d = enc.kwargs['d']
    assert enc.num_features==old.num_features+2*d
    with torch.no_grad():
        close(enc(x)[:,:old.num_features], old(x))
        fc1 = enc.parts(x)[enc.layers.index('fc1')]
    by_hand = (fc1[:,3:]-fc1[:,:-3]).square().mean(1).add(1e-8).sqrt()
    close(enc(x)[:,old.num_features:old.num_features+d], by_hand, eps=1e-4)

def test_order_matters_to_changes_only(enc):
    "Frames in another order: equal mean and deviation, other changes"
    y = [torch.randn(1,12,enc_part) for enc_part in (4,4,8,64)]
    mixed = [o[:,torch.randperm(12)] for o in y]
    a,b = enc.pool_time(y),enc.pool_time(mixed)
    n = 2*(4+4+8+64)
    close(a[:,:n], b[:,:n])
    assert (a[:,n:]-b[:,n:]).abs().max()>.05

@pytest.mark.parametrize('seconds', [.3, .95, 3.3])
def test_embed_pools_windows_as_the_encoder_does(enc, seconds):
    "Changes are within windows, never from one window to the next"
    wave = np.random.default_rng(0).normal(size=int(seconds*16000)).astype(np.float32)*.1
    windows = enc.front.windows(wave)
    with torch.no_grad(): parts = enc.parts(enc.front(windows))
    close(embed(enc, [wave], sr=16000)[0], enc.pool_time([o[None] for o in parts], windows=True)[0].detach(), eps=1e-3)

def test_saved_with_its_reading_and_old_folders_keep_theirs(enc, tmp_path):
    enc.save_pretrained(tmp_path/'new')
    again = AudioEncoder.from_pretrained(tmp_path/'new')
    assert again.changes==enc.changes and again.num_features==enc.num_features and again.untrained().changes==enc.changes
    cfg = json.loads((tmp_path/'new/config.json').read_text())
    del cfg['changes']
    (tmp_path/'new/config.json').write_text(json.dumps(cfg))
    assert AudioEncoder.from_pretrained(tmp_path/'new').num_features==old_reading(enc).num_features

@pytest.mark.parametrize('changes', [{'fc1':[0]}, {'fc1':[-3]}, {'fc1':3}, {'fc1':[True]}, {'fc1':[10**9]}, {'nothing':[3]}, [3], {'fc1':['3']}])
def test_invalid_changes_are_named(enc, tmp_path, changes):
    enc.save_pretrained(tmp_path)
    cfg = json.loads((tmp_path/'config.json').read_text())
    (tmp_path/'config.json').write_text(json.dumps({**cfg, 'changes':changes}))
    with pytest.raises(ConfigError, match='changes'): AudioEncoder.from_pretrained(tmp_path)

def test_an_index_of_another_reading_is_another_one(enc):
    "The same weights read otherwise give other vectors: whatever is kept of them is told apart"
    from slicer_fastai.use.search import encoder_key
    other = AudioEncoder(enc.arch, front=enc.front, layers=enc.layers, pool=enc.pool, changes={'fc1':(2,5)}, **enc.kwargs)
    other.load_state_dict(enc.state_dict())
    assert other.num_features==enc.num_features
    assert len({encoder_key(o) for o in (enc, other, old_reading(enc))})==3
