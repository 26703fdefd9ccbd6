"What looks at a model leaves it as it was, also when it fails"
from conftest import *
from slicer_fastai.core.state import *

def modes(m): return [o.training for o in m.modules()]

def frozen_norm(m):
    "A model in training whose first batch norm has been frozen"
    m.train()
    batch_norms(m)[0].eval()
    return modes(m)

@pytest.mark.parametrize('fails', [False, True])
def test_eval_mode_restores_every_layer(fails):
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()))
    before = frozen_norm(net)
    try:
        with eval_mode(net) as inside:
            assert inside is net and not any(modes(net))
            if fails: raise OSError
    except OSError: pass
    assert modes(net)==before

def test_random_states_are_restored():
    dl = DataLoader(range(20), bs=20, shuffle=True)
    def drawn(): return torch.rand(2).tolist(), np.random.rand(), random.random(), dl.one_batch().tolist()
    with keep_random_state(dl): a = drawn()
    with pytest.raises(OSError), keep_random_state(dl):
        drawn()
        raise OSError
    assert drawn()==a

@pytest.mark.parametrize('verb', ['predict','assign'])
def test_a_file_that_cannot_be_read_leaves_the_learner_in_training_mode(tiny, verb):
    learn = tiny()
    before = frozen_norm(learn.model)
    with pytest.raises(Exception): getattr(learn, verb)('nothing.wav')
    assert modes(learn.model)==before

@pytest.mark.parametrize('verb', ['predict','assign'])
def test_verbs_leave_frozen_batch_norms_frozen(tiny, files, verb):
    learn = tiny()
    before = frozen_norm(learn.model)
    getattr(learn, verb)(files[0] if verb=='predict' else files[:2])
    assert modes(learn.model)==before

@pytest.fixture
def labelled(files, tmp_path):
    return SlicerDataLoaders.from_lists(tmp_path, files[::2], files[::2].map(parent_label), valid_pct=.3, bs=8, num_workers=0, device='cpu')

def test_embed_leaves_batch_norms_frozen_that_keep_bn_froze(labelled, files):
    learn = audio_learner(labelled, AudioEncoder('audiontt', **encoder_kw), keep_bn=True)
    m = learn.model.train()
    assert m.training and not any(o.training for o in batch_norms(m))
    before = modes(m)
    m.encoder.embed(files[:2])
    assert modes(m)==before
    learn.predict(files[0])
    assert modes(m)==before
    with pytest.raises(Exception): learn.predict('nothing.wav')
    assert modes(m)==before
