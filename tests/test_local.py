"The local loss: off it leaves no trace, on it learns, and what cannot be compared is refused"
from conftest import *

def learner(sounds, **kwargs):
    set_seed(0, reproducible=True)
    dls = SlicerDataLoaders.from_folder(sounds, bs=8, num_workers=0, device='cpu')
    return SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw, **kwargs)

def test_off_there_is_no_head(sounds):
    m = learner(sounds, local_weight=0.).model
    assert m.student.local is None and not any('local' in k for k in m.state_dict()) and not m(*m.views(torch.randn(4,2,64,96)-5)).moments.numel()

def test_on_where_it_is_known_to_help(sounds):
    "By default: with AudioNTT and views that keep the time; not with a crop, nor with a network of few moments or none"
    weight = lambda **kw: learner(sounds, **kw).model.local_weight
    assert weight()==weight(tfms='kmix')==1. and weight(tfms='crop kmix')==0.
    dls = SlicerDataLoaders.from_folder(sounds, bs=8, num_workers=0, device='cpu')
    assert SlicerLearner(dls, 'test_resnet', **model_kw).model.local_weight==0.
    assert SlicerLearner(dls, **{**lape_preset, 'arch_kwargs':dict(layers='top', **encoder_kw), 'queue_size':8, 'bank_size':8}).model.local_weight==0.

def test_it_falls(sounds):
    l = learner(sounds, local_weight=1.)
    quiet(l, l.fit, 4, 3e-3)
    names = l.recorder.metric_names[1:-1]; c = names.index('local_loss')
    falls = [v[c] for v in l.recorder.values]
    assert falls[-1]<falls[0]-.1, falls
    assert all(torch.isfinite(p).all() for p in l.model.parameters())

def test_by_hand_and_gradient(sounds):
    l = learner(sounds, local_weight=.5); m = l.model.train()
    x = l.dls.one_batch()[0]
    v,w = m.views(x),m.views(x)
    ks = m.teach(*w, x); pred = m(*v)
    loss,chosen = m.loss(pred, *ks),ks.chosen
    z,k = pred.moments[chosen],ks.moments[chosen]
    want = torch.stack([torch.logsumexp(k@o/.1, 0)-(o@k[i])/.1 for i,o in enumerate(z)]).mean()
    close(loss.local_loss, want, 1e-4)
    m.local_weight = 0.; without = m.loss(pred[:4], *ks)
    close(loss.loss-without.loss, .5*want, 1e-4)
    loss.loss.backward()
    assert m.student.local.weight.grad.abs().sum()>0 and all(p.grad is None for p in m.teacher.parameters())
    assert {id(p) for g in l.splitter(m) for p in g}=={id(p) for p in m.student.parameters()}

def test_moments_are_of_the_same_windows(sounds):
    "Two windows of a clip: student and teacher hear each of them, chosen moments hold sound"
    m = learner(sounds, local_weight=1.).model
    x = torch.full((4,2,64,96), -16.); x[:,0,:,:8] = -2.; x[:,1,:,88:] = -2.
    keys = m.teach(*m.views(x), x)
    chosen,k = keys.chosen,keys.moments[keys.chosen]
    assert chosen[:4].nonzero()[:,1].unique().tolist()==[0] and chosen[4:].nonzero()[:,1].unique().tolist()==[11] and len(k)==8

def test_a_crop_over_time_is_refused(sounds):
    with pytest.raises(ValueError, match='leave crop out'): learner(sounds, local_weight=1., tfms='crop kmix')

def test_health_is_measured_with_it(sounds):
    "A fit that is watched; the log says what the columns say"
    l = learner(sounds)
    quiet(l, l.fit, 2, 1e-3, cbs=[Health()])
    assert len(l.health_log)==3 and all(np.isfinite(o['local_loss']) for o in l.health_log) and l.diagnose()
