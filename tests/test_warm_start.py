"Training that goes on from an encoder"
from conftest import *

@pytest.fixture
def trained_encoder(files):
    "A small encoder with normalisation and a front end of its own"
    enc = AudioEncoder('audiontt', front=FrontEnd(n_mels=32, level='rms'), **encoder_kw)
    enc.norm.fit(enc.front.specs(files[:8]))
    return enc.eval()

def weights(m): return {k:v for k,v in state(m).items() if k.startswith('body')}

def test_the_given_encoder_stays_as_it_is(tiny, loaders, trained_encoder, files):
    before,vectors = state(trained_encoder),trained_encoder.embed(files[:3])
    learn = tiny(loaders(front=trained_encoder.front), trained_encoder)
    assert not differ(before, state(learn.encoder))                      # weights, running averages, normalisation
    quiet(learn, learn.fit, 1, 1e-2)
    assert differ(before, state(learn.encoder))
    assert not differ(before, state(trained_encoder)) and not trained_encoder.training
    assert np.array_equal(vectors, trained_encoder.embed(files[:3]))

def test_its_normalisation_is_kept_unless_refitted(tiny, loaders, trained_encoder):
    trained_encoder.norm.mean += 1.
    dls = loaders(front=trained_encoder.front)
    kept,fitted = [tiny(dls, trained_encoder, refit_norm=o).encoder.norm for o in (None,True)]
    assert torch.equal(kept.mean, trained_encoder.norm.mean) and torch.equal(kept.std, trained_encoder.norm.std)
    assert abs(float(fitted.mean-trained_encoder.norm.mean))>.3

def test_an_encoder_without_normalisation_gets_one(tiny, loaders):
    learn = tiny(loaders(), AudioEncoder('audiontt', **encoder_kw))
    assert learn.encoder.norm.fitted and learn.encoder.norm.mean<-1

def test_heads_teacher_and_queue_are_new(tiny, loaders, trained_encoder):
    a = tiny(loaders(front=trained_encoder.front), trained_encoder)
    b = tiny(loaders(front=trained_encoder.front), trained_encoder, seed=1)
    assert not differ(weights(a.encoder), weights(b.encoder))
    assert all(torch.equal(*o) for o in zip(a.encoder.parameters(), a.model.teacher.encoder.parameters()))
    assert not torch.equal(a.model.student.instance.weight, b.model.student.instance.weight)
    assert entered(a.model)==0

def test_its_front_end_is_taken_over(tiny, loaders, trained_encoder, capsys):
    dls = loaders(duration=1.2)
    learn = tiny(dls, trained_encoder)
    want = FrontEnd.from_cfg({**trained_encoder.front.cfg, 'duration':1.2})
    assert learn.dls.front==learn.encoder.front==want
    assert dls.front.n_mels==64 and dls.one_batch()[0].shape[2]==64       # the caller's loaders stay as they are
    file = learn.dls.valid_ds.items[0]
    close(learn.dls.valid.one_batch()[0][0], want(want.read(file)[None])[0], 1e-4)
    printed = capsys.readouterr().out
    assert "level='rms' (the loaders had 'peak'), n_mels=32 (the loaders had 64)" in printed and printed.count('\n')==1
    quiet(learn, learn.fit, 1, 1e-3)

def test_one_line_says_what_is_new(tiny, loaders, capsys):
    tiny(loaders())
    assert capsys.readouterr().out==''
    tiny(loaders(), 'slicer-small', arch_kwargs=None)
    assert capsys.readouterr().out==("Training goes on from a copy of 'slicer-small': weights, front end and normalisation are kept. "
                                     'Heads, teacher, queue and bank are new.\n')

def test_from_a_name_a_folder_and_a_run(tiny, loaders, trained_encoder, tmp_path):
    trained_encoder.save_pretrained(tmp_path/'run'/'encoder')
    for start in (tmp_path/'run'/'encoder', str(tmp_path/'run'/'encoder'), tmp_path/'run'):
        learn = tiny(loaders(), start, arch_kwargs=None)
        assert not differ(weights(learn.encoder), weights(trained_encoder))
    learn = tiny(loaders(), 'slicer-small', arch_kwargs=None)
    assert not differ(weights(learn.encoder), weights(AudioEncoder.from_pretrained('slicer-small')))

def test_from_the_hub(tiny, loaders, trained_encoder, tmp_path, monkeypatch):
    import huggingface_hub
    folder,asked = trained_encoder.save_pretrained(tmp_path/'cache'),[]
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', lambda name, **kwargs: asked.append(name) or str(folder))
    learn = tiny(loaders(), 'someone/encoder', arch_kwargs=None)
    assert asked==['someone/encoder'] and not differ(weights(learn.encoder), weights(trained_encoder))

@pytest.mark.parametrize('kw', [dict(pretrained=True), dict(arch_kwargs=dict(d=8))], ids=str)
def test_what_makes_a_new_network_is_refused(loaders, kw):
    with pytest.raises(ValueError, match="'slicer-small' has its weights"): SlicerLearner(loaders(), 'slicer-small', **kw)

def test_a_folder_that_is_not_there(loaders):
    with pytest.raises(FileNotFoundError, match='nowhere'): SlicerLearner(loaders(), Path('nowhere'))
    with pytest.raises(ValueError, match='similar names'): SlicerLearner(loaders(), 'resnet81')

class OneLength(nn.Module):
    "A network that takes windows of 64 frames only"
    num_features = 8
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64*64, 8)
    def forward(self, x): return self.layer(x.flatten(1))

def test_a_network_of_one_length_keeps_its_windows(tiny, loaders, files):
    front = FrontEnd(duration=.63)
    enc = AudioEncoder(OneLength(), front=front, layers='top')
    enc.norm.fit(front.specs(files[:8]))
    learn = tiny(loaders(), enc, tfms='kmix')
    assert not enc.any_length and learn.dls.front.duration==.63 and learn.dls.one_batch()[0].shape[-1]==64
