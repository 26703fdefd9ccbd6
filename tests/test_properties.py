"What must hold for any input: symmetries, shapes, finite numbers, seeds, round trips"
from conftest import *
from hypothesis import given, settings, strategies as st
import functools, math

seeds,few = st.integers(0,99),settings(max_examples=10)
noise = lambda *s, seed=0, scale=1.: scale*torch.randn(*s, generator=torch.Generator().manual_seed(seed))
probs = lambda n, c, seed=0, scale=3.: noise(n, c, seed=seed, scale=scale).softmax(1)
perm  = lambda n, seed: torch.randperm(n, generator=torch.Generator().manual_seed(seed))

# --- symmetries ---

@given(st.integers(1,9), st.integers(1,9), seeds, st.sampled_from([1.,30.]))
def test_share_0_is_identity_and_share_1_the_other(n_mels, frames, seed, scale):
    x,z = noise(2,3,1,n_mels,frames, seed=seed, scale=scale)
    assert torch.equal(log_mix(x, z, 0.), x) and torch.equal(log_mix(x, z, 1.), z)
    for kind in (BankMix, lambda **kw: KMix(n_mels=n_mels, **kw)):
        m = kind(ratio=0., bank_size=4); m.push(z)
        assert torch.equal(m(x), x)
        m.norm = NormalizeSpec(-3., 2.)
        close(m(x), x)

@given(st.floats(0,1), seeds)
def test_mix_lies_between_and_is_symmetric(alpha, seed):
    x,z = noise(2,2,1,5,4, seed=seed, scale=10)
    y = log_mix(x, z, alpha)
    assert (y<=torch.maximum(x,z)+1e-5).all() and (y>=torch.minimum(x,z)-1e-5).all()
    close(y, log_mix(z, x, 1-alpha), 1e-4); close(log_mix(x, x, alpha), x); close(log_mix(x+5, z+5, alpha), y+5)

@given(st.integers(1,8), st.integers(0,12), seeds)
def test_order_of_the_batch_does_not_matter_to_losses(n, k, seed):
    q,keys,queue,p = unit(n,6, seed=seed),unit(n,6, seed=seed+1),unit(k,6, seed=seed+2),perm(n, seed)
    close(instance_loss(q[p], keys[p], queue), instance_loss(q, keys, queue))
    close(instance_loss(q, keys, queue[perm(k, seed)]), instance_loss(q, keys, queue))
    y1,y2 = probs(n, 5, seed),probs(n, 5, seed+1)
    close(cluster_loss(y1[p], y2[p]), cluster_loss(y1, y2)); close(assignment_entropy(y1[p]), assignment_entropy(y1))
    c = perm(5, seed)
    close(cluster_loss(y1[:,c], y2[:,c]), cluster_loss(y1, y2)); close(cluster_loss(y2, y1), cluster_loss(y1, y2))

@given(st.integers(2,12), seeds)
def test_rotating_all_vectors_does_not_matter(n, seed):
    q,k,queue = unit(n,6, seed=seed),unit(n,6, seed=seed+1),unit(7,6, seed=seed+2)
    r = torch.linalg.qr(noise(6,6, seed=seed))[0]
    close(instance_loss(q@r, k@r, queue@r), instance_loss(q, k, queue), 1e-4)

@given(st.integers(2,8), st.sampled_from([1,3,20,None]), seeds)
def test_order_of_the_batch_goes_through_candidates_and_crop(n, top_k, seed):
    x,p = noise(n,1,8,6, seed=seed)-2,perm(n, seed)
    km = KMix(n_clusters=3, bank_size=16, top_k=top_k, n_mels=8).fit(noise(30,1,8,6, seed=seed+1)-2)
    km.push(noise(11,1,8,6, seed=seed+2)-2)
    assert torch.equal(km.candidates(x)[p], km.candidates(x[p]))
    rrc = RandomResizeCrop(); box = rrc.draw(x)['box']
    close(rrc.encodes(x, box)[p], rrc.encodes(x[p], box[p]))

@given(st.integers(1,12), seeds)
def test_order_of_the_bank_goes_through_candidates(n, seed):
    bank,x,p = noise(n,1,8,6, seed=seed)-2,noise(5,1,8,6, seed=seed+3)-2,perm(n, seed)
    km = KMix(n_clusters=3, bank_size=n, top_k=3, n_mels=8).fit(noise(30,1,8,6, seed=seed+1)-2)
    km.push(bank);    a = km.candidates(x)
    km.push(bank[p]); b = km.candidates(x)
    assert torch.equal(a[:,p], b)

@given(st.floats(-10,10), st.floats(.1,10), seeds)
def test_normalising_is_undone(mean, std, seed):
    n,x = NormalizeSpec(mean, std),noise(2,1,4,5, seed=seed, scale=10)
    close(n.inverse(n(x)), x, 1e-4)

@given(st.integers(1,40), st.integers(1,30))
def test_padding_keeps_the_sound(n, want):
    x = np.arange(1, n+1, dtype=np.float32)
    for pad in ('zero','repeat'): assert len(pad_to(x, want, pad))==want
    y = pad_to(x, want)
    assert y[y>0].tolist()==x[:want].tolist()
    assert pad_to(x, want, 'repeat').tolist()==[x[i%n] for i in range(want)]

# --- shapes ---

@functools.cache
def encoder(arch): return AudioEncoder(arch, **(encoder_kw if arch=='audiontt' else {})).eval()

@few
@given(st.integers(1,80), st.integers(1,150), st.integers(1,4))
def test_views_keep_the_shape(n_mels, frames, bs):
    x,norm = noise(bs,1,n_mels,frames)-8,NormalizeSpec(-8., 3.)
    views = slicer_views(norm, bank_size=8, n_mels=n_mels, kmix_clusters=2)
    views.kmix.fit(noise(9,1,n_mels,frames, seed=1)-8)
    for _ in range(2):
        v = views(x)
        assert len(v)==2 and all(o.shape==x.shape and o.isfinite().all() and o.dtype==torch.float32 for o in v)
        views.push(x)

@few
@given(st.integers(513,40000))
def test_frames(n): assert LogMel()(torch.zeros(1,1,n)).shape==(1,1,64,1+n//160)

@few
@given(st.integers(1,300), st.sampled_from(['audiontt','resnet18']))
def test_any_length_can_be_embedded(frames, arch):
    enc = encoder(arch)
    with torch.no_grad(): y = enc(noise(1,1,64,frames))
    assert y.shape==(1,enc.num_features) and y.isfinite().all()

# --- finite numbers ---

extremes = dict(alike=lambda: unit(1,16).expand(8,16), opposite=lambda: unit(1,16)*tensor([1.,-1.]).repeat(4)[:,None], zero=lambda: torch.zeros(8,16), random=lambda: unit(8,16))

@pytest.mark.parametrize('temp', [.01,.07,1.])
@pytest.mark.parametrize('name', extremes)
def test_instance_loss_is_finite(name, temp):
    x = extremes[name]()
    for q,k,queue in ((x,x,x), (x,-x,x), (-x,x,x.repeat(9,1))):
        v,g = grads(lambda q,k: instance_loss(q, k, queue, temp), q, k)
        assert v.isfinite() and v>=-1e-6 and all(o.isfinite().all() for o in g)

@pytest.mark.parametrize('temp', [.05,1.])
@pytest.mark.parametrize('scale', [0.,1e-30,1.,30.,80.])
def test_cluster_loss_is_finite(scale, temp):
    a,b = noise(8,5, scale=scale),noise(8,5, seed=1, scale=scale)
    v,g = grads(lambda a,b: cluster_loss(a.softmax(1), b.softmax(1), temp), a, b)
    assert v.isfinite() and all(o.isfinite().all() for o in g)

@given(st.sampled_from([-1e4,-100.,-15.94,0.,30.]), st.sampled_from([-1e4,-100.,-15.94,0.,30.]), st.sampled_from([0.,1e-38,1e-7,.4,1-1e-7,1.]))
def test_mix_is_finite(x, z, alpha):
    y = log_mix(torch.full((2,1,3,3), x), torch.full((2,1,3,3), z), tensor(alpha))
    assert y.isfinite().all()
    want = np.logaddexp(x+np.log1p(-alpha), z+np.log(alpha)) if 0<alpha<1 else (z if alpha else x)
    close(y, torch.full((2,1,3,3), want), 1e-4)

@pytest.mark.parametrize('autocast', [False,True])
@pytest.mark.parametrize('dtype', [torch.bfloat16,torch.float32])
def test_losses_of_half_precision(dtype, autocast):
    "bf16 inputs, or bf16 all around: the losses still compute in float32"
    q,k,queue = [unit(*s, seed=i).to(dtype) for i,s in enumerate([(8,16),(8,16),(30,16)])]
    y1,y2 = probs(8,6).to(dtype),probs(8,6,1).to(dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast): res = instance_loss(q, k, queue),instance_loss(q, k, queue, n=tensor(9)),cluster_loss(y1, y2, .1),assignment_entropy(y1)
    exact = [t.double() for t in (q,k,queue,y1,y2)]
    q,k,queue,y1,y2 = exact
    ce = lambda neg: torch.nn.functional.cross_entropy(torch.cat([(q*k).sum(1,True), q@neg.T], 1)/.07, torch.zeros(8).long())
    z = torch.nn.functional.normalize(torch.cat([y1,y2], 1).T, dim=1); sim = z@z.T/.1
    sim.fill_diagonal_(-torch.inf)
    clus = torch.nn.functional.cross_entropy(sim, torch.arange(12).roll(6))
    p = y1.mean(0)
    for r,want in zip(res, (ce(queue), ce(queue[:9]), clus, -(p*p.log()).sum())):
        assert r.dtype==torch.float32
        close(r, want, 1e-4)

def test_a_step_in_bf16(tiny):
    learn = tiny()
    m,x = learn.model.train(),learn.dls.one_batch()[0]
    with torch.autocast('cpu', torch.bfloat16):
        v = m.views(x); ks = m.teach(*v); loss = m.loss(m(*v), *ks).loss
    assert all(o.dtype==torch.float32 for o in (*v,*ks[:2],loss))
    loss.backward(); m.enqueue(*ks[:2]); m.update_teacher()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in m.student.parameters())
    close(m.queue[:16].norm(dim=1), torch.ones(16), 1e-5)

def test_logmel_in_bf16_is_logmel():
    x = AudioTensor(noise(2,1,15200, scale=.1), sr=16000)
    with torch.autocast('cpu', torch.bfloat16): y = LogMel()(x)
    assert torch.equal(y, LogMel()(x))

def test_views_in_bf16_are_views(tiny):
    learn = tiny(); m,x = learn.model,learn.dls.one_batch()[0]
    set_seed(3); a = m.views(x)
    set_seed(3)
    with torch.autocast('cpu', torch.bfloat16): b = m.views(x)
    assert all(torch.equal(*o) for o in zip(a,b))

@pytest.mark.parametrize('level', ['rms','peak'])
@pytest.mark.parametrize('gain', [0., 1e-30, 1e-5, 1., 1e3])
def test_any_level_is_heard(gain, level):
    wave = AudioTensor(noise(2,1,15200)*gain, sr=16000)
    y = FrontEnd(level=level)(wave)
    assert y.isfinite().all()
    out = NormalizeLevel(level, db=-20.)(wave).as_subclass(Tensor)
    if gain>1e-4: close(out.square().mean(-1).sqrt() if level=='rms' else out.abs().amax(-1), torch.full((2,1), .1), 1e-3)
    else: assert out.abs().max()<=1000*wave.abs().max()*1.001               # 60 dB at most

# --- seeds and round trips ---

def test_same_seed_same_losses(tiny):
    a,b,c = [tiny(seed=s) for s in (0,0,1)]
    for l,s in ((a,0),(b,0),(c,1)):
        set_seed(s)
        l.dls.train.rng = random.Random(s)
        quiet(l, l.fit_one_cycle, 2, 1e-3)
    assert torch.equal(losses(a), losses(b)) and not torch.equal(losses(a), losses(c))
    assert a.recorder.values[-1][1:]==b.recorder.values[-1][1:]
    assert not differ(state(a.model), state(b.model))

def test_same_seed_from_the_start(files, tmp_path):
    "Set the seed, make everything, train: as a script does"
    runs = []
    for _ in range(2):
        set_seed(5)
        dls = SlicerDataLoaders.from_lists(tmp_path, files[::3], bs=8, num_workers=0, device='cpu')
        l = SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw)
        quiet(l, l.fit, 1); runs.append(losses(l))
    assert torch.equal(*runs)

def test_save_and_load_go_on_where_it_stopped(tiny, tmp_path):
    a = tiny(path=tmp_path, queue_size=50, momentum=.9)
    quiet(a, a.fit, 2, 1e-3)
    a.save('run')
    b = tiny(path=tmp_path, queue_size=50, momentum=.9, seed=3)
    assert differ(state(a.model), state(b.model))
    b.create_opt(); b.load('run')
    assert not differ(state(a.model), state(b.model))
    names = set(state(a.model))
    for part in ('queue','queue_count','teacher.instance.weight','teacher.encoder.norm.mean','student.encoder.norm.std','views.tfms.2.centroids','views.tfms.2.bank.specs','views.tfms.2.bank.count'): assert part in names
    for l in (a,b):
        set_seed(7)
        l.dls.train.rng = random.Random(7)
        quiet(l, l.fit, 1, 1e-3)
    assert torch.equal(losses(a), losses(b)) and losses(a).isfinite().all()
    assert not differ(state(a.model), state(b.model))

def test_state_dict_goes_into_a_model_without_a_bank(tiny):
    "A model that never saw a clip takes over the bank, whatever its size"
    a = tiny(bank_size=20)
    quiet(a, a.fit, 1)
    enc = AudioEncoder('audiontt', **encoder_kw)
    m = SlicerModel(enc, slicer_views(enc.norm, 'mixup crop kmix', bank_size=7), **model_kw, queue_size=len(a.model.queue))
    m.load_state_dict(state(a.model))
    assert not differ(state(m), state(a.model)) and m.views.kmix.bank.size==20
    x = a.dls.one_batch()[0]
    set_seed(1); v = a.model.views(x)
    set_seed(1); w = m.views(x)
    assert all(torch.equal(*o) for o in zip(v,w))
