"Each fact of the method against something outside this project"
from conftest import *
from collections import deque
from hypothesis import given, strategies as st
import librosa, math, scipy.stats, sklearn.cluster, soundfile as sf, timm
import torch.nn.functional as F

# --- front end ---

def a_sound(name, n=15200):
    rng,t = np.random.default_rng(3),np.arange(n)/16000
    noise = rng.normal(size=n)
    return dict(chirp=.3*np.sin(2*np.pi*(300+1500*t)*t), noise=.1*noise, silence=0*t, clipped=np.clip(2*noise, -1, 1), click=1.*(np.arange(n)==5000),
                edge=1.*(np.arange(n)<3), faint=1e-5*noise, offset=.5+.1*noise, high=np.sin(2*np.pi*7700*t), hum=np.sign(np.sin(2*np.pi*50*t)))[name].astype(np.float32)

@pytest.mark.parametrize('pad_mode', ['reflect','constant'])
@pytest.mark.parametrize('name', 'chirp noise silence clipped click edge faint offset high hum'.split())
def test_logmel_is_librosas(name, pad_mode):
    x = a_sound(name)
    mel = librosa.feature.melspectrogram(y=x.astype(float), sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60, fmax=7800, pad_mode=pad_mode)
    y = LogMel(pad_mode=pad_mode)(AudioTensor(torch.from_numpy(x)[None,None], sr=16000))[0,0]
    assert y.shape==mel.shape==(64,96)
    want = np.log(mel+1.19e-7)
    err,far = np.abs(y.numpy()-want),want<want.max()-12
    assert err[~far].max()<1e-4 and err.max()<(3e-3 if name in ('chirp','high') else 1e-4)      # 50 dB below a pure tone: float32; librosa's FFT is float64

@pytest.mark.parametrize('kw', [dict(sr=22050, n_fft=512, hop_length=128, n_mels=40, f_min=0., f_max=11025.), dict(n_fft=400, hop_length=100, n_mels=80, f_max=8000.)])
def test_logmel_other_settings(kw):
    x,c = a_sound('noise'),dict(sr=16000, f_min=60., f_max=7800.) | kw
    mel = librosa.feature.melspectrogram(y=x.astype(float), sr=c['sr'], n_fft=c['n_fft'], hop_length=c['hop_length'], n_mels=c['n_mels'], fmin=c['f_min'], fmax=c['f_max'], pad_mode='reflect')
    assert np.abs(LogMel(**kw)(torch.from_numpy(x)[None]).numpy()[0]-np.log(mel+1.19e-7)).max()<1e-4

def test_edges_differ_between_paddings():
    x = AudioTensor(torch.from_numpy(a_sound('noise'))[None], sr=16000)
    d = (LogMel()(x)-LogMel(pad_mode='constant')(x)).abs().amax((0,1)).as_subclass(Tensor)
    assert d[:3].min()>.1 and d[-3:].min()>.1 and d[4:-4].max()==0

def test_floor_of_silence(): close(LogMel()(torch.zeros(1,15200)), torch.full((1,64,96), math.log(1.19e-7)), 1e-6)

def test_window_is_095_s(loaders):
    dls = loaders()
    waves = dls.train.new(after_batch=None).one_batch()[0]
    assert waves.shape==(8,1,15200) and waves.sr==16000
    assert dls.one_batch()[0].shape==(8,1,64,96)

@pytest.mark.parametrize('n,left,right', [(15199,0,1), (15198,1,1), (15197,1,2), (1001,7099,7100), (1,7599,7600), (15200,0,0)])
def test_short_clip_is_centred(tmp_path, n, left, right):
    sf.write(tmp_path/'a.wav', np.full(n, .5, np.float32), 16000, subtype='FLOAT')
    x = ReadAudio()(tmp_path/'a.wav')[0]
    assert x.shape==(15200,) and (x!=0).sum()==n
    assert (x[:left]==0).all() and (x[left:left+n]==.5).all() and (x[left+n:]==0).all() and len(x)-left-n==right

def test_window_is_shared_by_both_views(tiny):
    learn,seen = tiny(tfms=''),[]
    quiet(learn, learn.fit, 1, cbs=Spy(SLICER.order+.5, before_batch=lambda l: seen.append(l.xb)))
    assert len(seen)==4 and all(torch.equal(a,b) for a,b in seen)

def test_statistics_are_those_of_the_training_set(tiny):
    learn = tiny()
    n = learn.encoder.norm
    x = torch.stack([b[0].as_subclass(Tensor) for _ in range(3) for b in learn.dls.train])
    close(n.mean, x.mean(), .05); close(n.std, x.std(), .05)
    before = state(n)
    quiet(learn, learn.fit, 2)                                              # not restarted each epoch
    assert not differ(before, state(n)) and not differ(before, state(learn.model.teacher.encoder.norm))

# --- instance loss ---

def naive_instance(q, k, queue, temp):
    "-log(e^{q·k/T} / (e^{q·k/T} + Σ e^{q·Q/T})), pair by pair, in float64"
    q,k,queue = q.double(),k.double(),queue.double()
    total = 0.
    for i in range(len(q)):
        pos = sum(q[i,j]*k[i,j] for j in range(q.shape[1]))
        terms = [pos/temp]
        for n in range(len(queue)): terms.append(sum(q[i,j]*queue[n,j] for j in range(q.shape[1]))/temp)
        top = max(t.item() for t in terms)
        total = total + top + sum((t-top).exp() for t in terms).log() - pos/temp
    return total/len(q)

def torch_instance(q, k, queue, temp):
    q,k,queue = q.double(),k.double(),queue.double()
    return F.cross_entropy(torch.cat([(q*k).sum(1)[:,None], q@queue.T], 1)/temp, torch.zeros(len(q), dtype=torch.long))

@pytest.mark.parametrize('temp', [.07,.1,1.])
@pytest.mark.parametrize('n', [None,0,1,5,12])
def test_instance_loss(temp, n):
    q,k,queue = unit(4,6, seed=1),unit(4,6, seed=2),unit(12,6, seed=3)
    v,g = grads(lambda q,k: instance_loss(q, k, queue, temp, None if n is None else tensor(n)), q, k)
    for oracle in (naive_instance, torch_instance):
        w,h = grads(lambda q,k: oracle(q, k, queue[:n], temp), q, k)
        close(v, w); close(g[0], h[0]); close(g[1], h[1])

def test_instance_loss_ignores_what_is_not_yet_in_the_queue():
    q,k,queue = unit(4,6, seed=1),unit(4,6, seed=2),unit(12,6, seed=3)
    other = torch.cat([queue[:5], 9*q[:1].expand(7,-1)])
    assert instance_loss(q, k, queue, n=tensor(5))==instance_loss(q, k, other, n=tensor(5))

# --- cluster loss ---

def naive_cluster(y1, y2, temp):
    cols = [c.double() for c in (*y1.T, *y2.T)]
    C,total = y1.shape[1],0.
    cos = lambda a,b: (a*b).sum()/((a*a).sum().sqrt()*(b*b).sum().sqrt())
    for i in range(2*C):
        pos = cos(cols[i], cols[(i+C)%(2*C)])/temp
        total = total - pos + sum((cos(cols[i], cols[j])/temp).exp() for j in range(2*C) if j!=i).log()
    return total/(2*C)

def broadcast_cluster(y1, y2, temp):
    c = torch.cat([y1,y2], 1).double()
    sim = F.cosine_similarity(c[:,:,None], c[:,None,:], dim=0)/temp
    n,C = len(sim),y1.shape[1]
    off = sim[~torch.eye(n, dtype=torch.bool)].view(n, n-1)
    pos = sim[torch.arange(n), (torch.arange(n)+C)%n]
    return (off.logsumexp(1)-pos).mean()

@pytest.mark.parametrize('temp', [.1,.5,1.])
@pytest.mark.parametrize('shape', [(8,5),(3,7),(2,1),(16,12)])
def test_cluster_loss(temp, shape):
    a,b = torch.randn(2,*shape)*2
    f = lambda loss: (lambda a,b: loss(a.softmax(1), b.softmax(1), temp))
    v,g = grads(f(cluster_loss), a, b)
    for oracle in (naive_cluster, broadcast_cluster):
        w,h = grads(f(oracle), a, b)
        close(v, w); close(g[0], h[0]); close(g[1], h[1])

@pytest.mark.parametrize('empty', ['exactly','by underflow','all but one','tiny'])
def test_empty_cluster(empty):
    logits,other = empty_logits(empty),torch.randn(8,5)
    v,g = grads(lambda a: cluster_loss(a.softmax(1), other.softmax(1)), logits)
    assert v.isfinite() and g[0].isfinite().all() and g[0].abs().max()<10
    v,g = grads(lambda a: assignment_entropy(a.softmax(1)), logits)
    assert v.isfinite()
    assert g[0].isfinite().all(), 'gradient of the entropy'

@pytest.mark.parametrize('weight', [0.,1.])
def test_empty_cluster_in_the_model(weight):
    "One cluster that underflows must not stop the training, whatever the weight of the entropy"
    m,p,ks = ready(entropy_weight=weight)
    m.student.cluster[2].bias.data[3] = -300.
    v = torch.randn(2,6,1,64,96)
    loss = m.loss(m(*v), *ks).loss; loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in m.student.parameters())

def empty_logits(empty):
    logits = torch.randn(8,5)
    big = {'exactly':-torch.inf, 'by underflow':-200., 'tiny':-40.}.get(empty)
    if big is None: logits[:,1:] = -200.
    else: logits[:,2] = big
    return logits

def test_columns_alike_give_chance(): close(cluster_loss(torch.full((6,9), 1/9), torch.full((6,9), 1/9)), math.log(2*9-1))

@given(st.integers(1,20), st.integers(1,20), st.integers(0,99))
def test_entropy_is_scipys(n, c, seed):
    y = torch.randn(n, c, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1)
    close(assignment_entropy(y), scipy.stats.entropy(y.double().mean(0).numpy()))

# --- the model: sum of losses, queue, teacher ---

def bare(queue_size=20, momentum=.9, temp=.07, **kwargs):
    torch.manual_seed(0)
    enc = AudioEncoder('audiontt', **encoder_kw)
    return SlicerModel(enc, Views([RandomResizeCrop(norm=enc.norm)]), **model_kw, queue_size=queue_size, momentum=momentum, temp=temp, **kwargs)

def ready(n_keys=7, **kwargs):
    "A model whose queue holds `n_keys` keys, its predictions and targets on noise"
    m = bare(**kwargs)
    m.enqueue(unit(n_keys,16, seed=5), unit(0,16))
    v = torch.randn(2,6,1,64,96)
    return m, m(*v), m.teach(*v)

def test_loss_is_both_halves_plus_cluster():
    m,(q1,q2,y1,y2,*_),(k1,k2,*_) = ready()
    negs = unit(7,16, seed=5)
    want = naive_instance(q1, k2, negs, .07) + naive_instance(q2, k1, negs, .07) + naive_cluster(y1, y2, 1.)
    close(m.loss((q1,q2,y1,y2), k1, k2).loss, want)

def test_loss_switches():
    m,p,(k1,k2,*_) = ready(symmetric=False, cluster_weight=0., temp=.5)
    close(m.loss(p, k1, k2).loss, naive_instance(p[0], k2, unit(7,16, seed=5), .5))
    m,p,(k1,k2,t1,t2,*_) = ready(cluster_target='teacher', temp_c=.5, entropy_weight=2.)
    negs = unit(7,16, seed=5)
    entropy = sum(scipy.stats.entropy(y.detach().double().mean(0).numpy()) for y in p[2:4])/2
    want = naive_instance(p[0], k2, negs, .07) + naive_instance(p[1], k1, negs, .07) + (naive_cluster(p[2], t2, .5)+naive_cluster(p[3], t1, .5))/2 - 2*entropy
    close(m.loss(p, k1, k2, t1, t2).loss, want)

def test_no_key_of_the_batch_is_a_negative():
    "The reference enqueues k₂ between the halves; that reading gives another number, and ours isn't it"
    m,(q1,q2,y1,y2,*_),(k1,k2,*_) = ready(cluster_weight=0.)
    negs = unit(7,16, seed=5)
    first = naive_instance(q1, k2, negs, .07)
    ours,theirs = [first+naive_instance(q2, k1, n, .07) for n in (negs, torch.cat([negs,k2]))]
    assert theirs-ours>.1
    close(m.loss((q1,q2,y1,y2), k1, k2).loss, ours)

def test_both_halves_read_the_queue_as_before_the_step(tiny):
    "Through the real loop: the loss of every batch, from a queue kept by the test"
    learn = tiny(queue_size=24, cluster_weight=0., momentum=.5)
    held,seen = deque(learn.model.queue.clone(), maxlen=24),[]
    def check(l):
        negs = torch.stack(list(held))
        want = torch_instance(l.pred[0], l.yb[1], negs, .1)+torch_instance(l.pred[1], l.yb[0], negs, .1)
        close(l.loss, want); close(l.loss_parts['chance'], math.log(25))
        held.extend(torch.cat(l.yb[:2])); seen.append(len(held))
    quiet(learn, learn.fit, 2, 1e-3, cbs=Spy(after_loss=check))
    assert seen==8*[24]

@pytest.mark.parametrize('size,bs', [(20,6),(7,3),(8,4),(5,8),(1,2),(12,3)])
def test_queue_holds_the_latest_keys(size, bs):
    m,held,n = bare(queue_size=size),deque(maxlen=size),0
    for _ in range(7):
        ids = torch.arange(n, n+2*bs); n += 2*bs
        m.enqueue(*ids[:,None].expand(-1,16).float().chunk(2))
        held.extend(ids.tolist())
        filled = int(m.queue_count.clamp_max(size))
        assert sorted(m.queue[:filled,0].tolist())==sorted(held)
        assert (m.queue==m.queue[:,:1]).all()

def test_teacher_in_closed_form(tiny):
    "θₜ(n) = mⁿθ₀ + (1-m)Σ mⁿ⁻ⁱ θₛ(i), through the real Learner"
    learn,students = tiny(momentum=.9),[]
    flat = lambda m: torch.cat([p.detach().double().flatten() for p in m.parameters()])
    start = flat(learn.model.student)
    quiet(learn, learn.fit_one_cycle, 2, 3e-3, cbs=Spy(after_step=lambda l: students.append(flat(l.model.student))))
    n = len(students)
    assert n==8
    want = .9**n*start + .1*sum(.9**(n-1-i)*s for i,s in enumerate(students))
    close(flat(learn.model.teacher), want, 1e-6)
    assert (want-start).abs().max()>1e-3 and (want-students[-1]).abs().max()>1e-3

def test_teacher_moves_once_an_optimiser_step(tiny):
    learn,students,teachers = tiny(momentum=.8),[],[]
    flat = lambda m: torch.cat([p.detach().double().flatten() for p in m.parameters()])
    watch = Spy(SLICER.order-.5, after_step=lambda l: students.append(flat(l.model.student)))
    after = Spy(SLICER.order+.5, after_batch=lambda l: teachers.append(flat(l.model.teacher)))
    start = flat(learn.model.student)
    quiet(learn, learn.fit, 2, 1e-3, cbs=[watch, after, GradientAccumulation(16)])
    assert len(students)==4 and len(teachers)==8                            # 8 batches of 8 clips, a step every 16 clips
    close(teachers[0], start, 0); close(teachers[-1], .8**4*start+.2*sum(.8**(3-i)*s for i,s in enumerate(students)), 1e-6)
    assert entered(learn.model)==2*8*8                                   # the keys of every batch enter

@pytest.mark.parametrize('target', ['student','teacher'])
def test_no_gradient_reaches_the_teacher(tiny, target):
    learn,grads,ks = tiny(cluster_target=target),[],[]
    look = Spy(before_step=lambda l: (grads.append([p.grad for p in l.model.teacher.parameters()]), ks.append(any(k.requires_grad for k in l.yb))))
    quiet(learn, learn.fit, 1, cbs=look)
    assert len(grads)==4 and not any(g is not None for gs in grads for g in gs) and not any(ks)
    ids = {id(p) for p in learn.opt.all_params().itemgot(0)}
    assert ids=={id(p) for p in learn.model.student.parameters()}

def test_teacher_has_no_dropout_unless_asked():
    x = torch.randn(4,1,64,96)
    for on in (False,True):
        m = bare(teacher_dropout=on).train()
        assert torch.equal(m.teacher(x)[0], m.teacher(x)[0])!=on

def test_teacher_batch_norm():
    "'batch': a clip's key depends on the clips beside it; 'running': it doesn't, and the averages follow the student's"
    x,y = torch.randn(4,1,64,96),5*torch.randn(4,1,64,96)
    for kind in ('batch','running'):
        m = bare(teacher_bn=kind).train()
        key = lambda *o: m.teacher(torch.cat(o))[0][:4]
        assert ((key(x,x)-key(x,y)).abs().max()>1e-3)==(kind=='batch')
    bn = lambda net: [b.double().clone() for l in net.modules() if isinstance(l, nn.BatchNorm2d) for b in (l.running_mean,l.running_var)]
    old = bn(m.teacher); m(x, y); m.update_teacher()
    for o,s,t in zip(old, bn(m.student), bn(m.teacher)):
        close(t, .9*o+.1*s, 1e-6); assert (s-o).abs().max()>1e-4

def test_chance_column(tiny):
    learn = tiny(queue_size=40)
    quiet(learn, learn.fit, 2, 1e-4)
    col = learn.recorder.metric_names[1:-1].index('chance')
    chance = [v[col] for v in learn.recorder.values]
    close(chance, [math.log(41)]*2)                                         # 64 keys an epoch: full from the first

def test_chance_column_is_constant(tiny):
    "The queue is full from the first step, whatever its size"
    learn = tiny(queue_size=1000)
    quiet(learn, learn.fit, 2, 1e-4)
    col = learn.recorder.metric_names[1:-1].index('chance')
    close([v[col] for v in learn.recorder.values], [math.log(1001)]*2)

# --- encoder ---

def test_audiontt_by_hand():
    m = timm.create_model('audiontt')
    conv = lambda i,o: i*o*9+o + 2*o
    n = conv(1,64)+2*conv(64,64) + 512*2048+2048 + 2048*2048+2048
    assert sum(p.numel() for p in m.parameters())==n and round(n/1e6, 2)==5.32
    x = torch.randn(3,1,64,96)
    assert m(x).shape==(3,12,2048)
    assert m.conv(x).shape==(3,64,8,12)
    assert [l.p for l in m.modules() if isinstance(l, nn.Dropout)]==[.3]

def test_audiontt_layer_by_layer():
    "Convolution, batch norm, ReLU, then pooling; frames flattened over mel and channel"
    m = timm.create_model('audiontt', d=24, width=4).eval()
    for b in m.modules():
        if isinstance(b, nn.BatchNorm2d): b.running_mean.normal_(); b.running_var.uniform_(.5, 2); nn.init.normal_(b.weight); nn.init.normal_(b.bias)
    y = x = torch.randn(2,1,64,96)
    convs,bns,lins = [[l for l in m.modules() if isinstance(l, t)] for t in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)]
    for c,b in zip(convs, bns): y = F.max_pool2d(F.relu(b(F.conv2d(y, c.weight, c.bias, padding=1))), 2)
    steps = [torch.stack([y[i,:,:,t].T.reshape(-1) for i in range(2)]) for t in range(12)]      # mel·channel
    fc1 = torch.stack([lins[0](s) for s in steps], 1)
    fc2 = lins[1](F.relu(fc1))
    for name,want in dict(conv3=torch.stack(steps, 1), fc1=fc1, fc2=fc2, top=F.relu(fc2)).items(): close(m.forward_layers(x)[name], want)
    close(m(x), F.relu(fc2))

def test_audiontt2022_is_local_beside_global(tmp_path):
    "arXiv 2204.07402, 3.2: two blocks, the convolutions' 64·16 numbers beside the perceptron's 2048, mean + max over time"
    m,x = timm.create_model('audiontt2022').eval(),torch.randn(2,1,64,96)
    assert sum(p.numel() for p in m.parameters())==1*64*9+64*64*9+2*(64+2*64) + 1024*2048+2048 + 2048*2048+2048
    local = m.conv(x).permute(0,3,2,1).flatten(2)
    close(m(x), torch.cat([local, m.fc(local)], -1))
    enc = AudioEncoder('audiontt2022', layers='top', pool='max+mean')
    assert enc.num_features==enc.top_features==3072 and enc.top(x).shape==(2,3072)
    small = AudioEncoder('audiontt2022', d=16, width=4).eval()
    close(AudioEncoder.from_pretrained(small.save_pretrained(tmp_path/'e'))(x), small(x))
    for arch in ('audiontt','audiontt2022'):
        with pytest.raises(ValueError, match='no published weights'): AudioEncoder(arch, pretrained=True)

def test_pooling_is_max_plus_mean():
    enc,x = AudioEncoder('audiontt', layers='top', pool='max+mean', **encoder_kw).eval(),torch.randn(2,1,64,96)
    f = enc.frames(x)
    assert f.shape==(2,12,32)
    close(enc(x), f.max(1).values+f.mean(1)); close(enc.top(x), enc(x))

def test_heads(tiny):
    m,x = tiny().model.eval(),torch.randn(3,1,64,96)
    q,y,_ = m.student(x)
    h = m.encoder.top(x)
    close(q, F.normalize(F.linear(h, m.student.instance.weight, m.student.instance.bias)))
    close(y, m.student.cluster[2](F.relu(m.student.cluster[0](h))).softmax(1))
    big = SlicerNet(AudioEncoder('audiontt', **encoder_kw))
    assert [tuple(l.weight.shape) for l in (big.instance, big.cluster[0], big.cluster[2])]==[(128,32),(2048,32),(128,2048)]

# --- views ---

@given(st.floats(0,1), st.integers(0,99))
def test_log_mix_in_float64(alpha, seed):
    g = torch.Generator().manual_seed(seed)
    x,z = torch.randn(2,1,8,6, generator=g)*20-5
    X,Z = x.double(),z.double()
    close(log_mix(x, z, alpha), ((1-alpha)*X.exp()+alpha*Z.exp()).log())

def test_log_mix_adds_powers():
    "Two tones far apart, mixed as log-mels and as waves"
    t = torch.arange(15200)/16000
    a,b = .5*torch.sin(2*np.pi*440*t),.5*torch.sin(2*np.pi*3000*t)
    x,z,both = LogMel()(torch.stack([a, b, .7**.5*a+.3**.5*b])).as_subclass(Tensor)[..., 4:-4]
    mixed = log_mix(x, z, .3)
    loud = mixed>mixed.max()-4
    assert loud.any(1).sum()>=4 and (mixed-both)[loud].abs().max()<.01
    close(x[loud & (x>z)]+math.log(.7), mixed[loud & (x>z)], 1e-3)

@pytest.mark.parametrize('kind', [BankMix,KMix])
def test_shares_are_uniform_up_to_ratio(kind):
    m = kind(.4, bank_size=8)
    m.push(torch.randn(8,1,64,6))
    i,a = m.draw(torch.randn(4000,1,64,6)).values()
    a = a.flatten().numpy()
    assert scipy.stats.kstest(a, 'uniform', (0,.4)).pvalue>1e-3
    if kind is BankMix: assert scipy.stats.chisquare(np.bincount(i, minlength=8)).pvalue>1e-3

@given(st.integers(1,80), st.integers(1,120), st.integers(0,99))
def test_crop_is_interpolate(n_mels, frames, seed):
    torch.manual_seed(seed)
    x,norm = torch.randn(3,1,n_mels,frames)*4-8,NormalizeSpec(-8.,4.)
    rrc = RandomResizeCrop(norm=norm)
    box = rrc.draw(x)['box']
    W,left = int(1.5*frames),(int(1.5*frames)-frames)//2
    canvas = torch.zeros(3,1,n_mels,W, dtype=torch.float64)
    canvas[..., left:left+frames] = (x.double()+8)/4                                  # zeros after normalisation
    y = rrc.encodes(x, box)
    for k,(i,j,h,w) in enumerate(box.int().tolist()):
        assert 0<=i and i+h<=n_mels and 0<=j and j+w<=W and min(h,w)>=1
        want = F.interpolate(canvas[k:k+1,:,i:i+h,j:j+w], (n_mels,frames), mode='bicubic', align_corners=True)*4-8
        close(y[k:k+1], want, 1e-5)

def test_boxes_are_drawn_as_in_byola():
    box = RandomResizeCrop().draw(torch.zeros(4000,1,64,96))['box'].int().numpy()
    rng = np.random.default_rng(0)
    for col,n,canvas in ((2,64,64),(3,96,144)):
        want = np.minimum((rng.uniform(.6,1.5,4000)*n).astype(int), canvas)
        assert scipy.stats.ks_2samp(box[:,col], want, method='asymp').pvalue>1e-3
    room = 145-box[:,3]                                                     # places for the box
    assert scipy.stats.kstest((box[:,1]+rng.uniform(0,1,4000))/room, 'uniform').pvalue>1e-3

def book(km, x):
    "k-mix's candidates, read word by word: the distance of unit vectors ranks as the angle does"
    one = lambda v: v/np.linalg.norm(v)
    feat = lambda s: one(s.double().numpy().mean(-1).ravel())
    cents = [one(c) for c in km.centroids.double().numpy()]
    far = lambda a,b: np.linalg.norm(a-b)
    bank = [feat(km.bank.specs[j]) for j in range(min(int(km.bank.count), km.bank.size))]
    nearest = lambda f: min(range(len(cents)), key=lambda c: far(f, cents[c]))
    homes,out = [nearest(f) for f in bank],np.zeros((len(x), km.bank.size), bool)
    for row,s in zip(out, x[:,0]):
        f = feat(s); own = nearest(f)
        others = sorted((c for c in range(len(cents)) if c!=own), key=lambda c: -far(cents[own], cents[c]))
        members = next((m for c in (*others, own) if (m:=[j for j,h in enumerate(homes) if h==c])), [])
        members.sort(key=lambda j: -far(f, bank[j]))
        row[members[:km.top_k]] = True
    return torch.from_numpy(out)

def blobs(n, seed=0, k=4, d=16, spread=.3):
    "Spectrograms whose mean spectra lie around `k` directions"
    g = torch.Generator().manual_seed(seed)
    dirs = torch.randn(k, d, generator=torch.Generator().manual_seed(7))
    own = torch.randint(k, (n,), generator=g)
    return (dirs[own][:,None,:,None]+spread*torch.randn(n,1,d,5, generator=g)-1), own

@pytest.mark.parametrize('top_k', [1,4,32,100,None])
@pytest.mark.parametrize('bank', ['one','few','lacks a cluster','lacks two','own only','full','wrapped'])
def test_candidates_by_the_book(bank, top_k):
    fit,_ = blobs(80, 1)
    x,own = blobs(12, 2)
    s,home = blobs(64, 3)
    km = KMix(bank_size=32, top_k=top_k, n_mels=16).fit(fit)
    if bank=='own only': x = x[own==own[0]]
    km.push({'one':s[:1], 'few':s[:5], 'lacks a cluster':s[home!=0][:20], 'lacks two':s[home<2][:20], 'own only':s[home==own[0]][:9], 'full':s[:32], 'wrapped':s[:40]}[bank])
    if bank=='wrapped': km.push(s[40:])
    c = km.candidates(x)
    assert torch.equal(c, book(km, x))
    assert (c.sum(1)>0).all() and not (c & ~km.bank.filled).any()
    if bank=='own only': assert (c.sum(1)==min(top_k or 9, int((home==own[0])[:64].sum()), 9)).all()

def test_candidates_of_an_empty_bank():
    x,_ = blobs(6)
    km = KMix(bank_size=32, n_mels=16).fit(x)
    assert not km.candidates(x).any() and torch.equal(km(x), x)
    km.bank._alloc(16, 5)
    assert not km.candidates(x).any() and torch.equal(km(x), x)              # memory for clips, but none in it
    assert km.candidates(x).shape==(6,32)

def test_partners_are_drawn_among_the_candidates():
    x,_ = blobs(10, 2)
    km = KMix(bank_size=32, top_k=3, n_mels=16).fit(blobs(80, 1)[0])
    km.push(blobs(32, 3)[0])
    c = km.candidates(x)
    i = torch.stack([km.draw(x)['partner'] for _ in range(60)])
    for b in range(10): assert set(i[:,b].tolist())==set(c[b].nonzero().flatten().tolist())

def test_spherical_kmeans_against_sklearn():
    g = torch.Generator().manual_seed(0)
    for spread in (.2, .6, 1.5):
        x = F.normalize(torch.randn(5,12, generator=g)[torch.arange(300)%5]+spread*torch.randn(300,12, generator=g), dim=1)
        c = spherical_kmeans(x, 5)
        sk = sklearn.cluster.KMeans(5, n_init=20, random_state=1).fit(x.numpy())
        score = lambda c: (x@F.normalize(torch.as_tensor(c).float(), dim=1).T).amax(1).mean().item()
        assert score(c)>=score(sk.cluster_centers_)-.005*(spread>.2)-1e-5
        near = (x@c.T).argmax(1)
        close(c, torch.stack([F.normalize(x[near==k].sum(0), dim=0) for k in range(5)]), 1e-3 if spread>1 else 1e-5)      # a fixed point
        if spread==.2: assert sklearn.metrics.adjusted_rand_score(sk.labels_, near)==1

def test_spherical_kmeans_sees_directions_only():
    x = torch.randn(100,8)
    c = spherical_kmeans(x, 3)
    for o in (10*x, x*torch.rand(100,1).add(.1)): close(spherical_kmeans(o, 3), c, 1e-4)

# --- the bank in the loop ---

class Ledger(Callback):
    "Keeps what entered and what the views saw"
    order = SLICER.order-.5
    def before_fit(self): self.kept,self.n,self.firsts = list(self.model.views.kmix.bank.specs[self.model.views.kmix.bank.filled].clone()),0,[]
    def before_batch(self):
        if not self.training: return
        bank = self.model.views.kmix.bank
        held = [s for s in bank.specs[bank.filled]]
        want = self.kept[-bank.size:]
        key = lambda s: s.flatten()[:50].tolist()
        assert sorted(map(key, held))==sorted(map(key, want))
        self.batch = self.xb[0].as_subclass(Tensor)[:,0].clone()
    def after_batch(self):
        if self.training: self.kept += list(self.batch); self.n += 1

def test_bank_holds_clean_clips_once_and_of_earlier_batches(tiny):
    learn,led = tiny(bank_size=30),Ledger()
    m = learn.model.views.kmix
    assert len(learn.model.views.banks)==1 and m.bank.count>0                # filled before training
    quiet(learn, learn.fit, 3, 1e-3, cbs=led)
    assert led.n==12

def test_partner_is_never_of_the_same_batch(tiny, monkeypatch):
    learn,pairs = tiny(bank_size=64, tfms='kmix'),[]
    km = learn.model.views.kmix
    mix = km.encodes
    def spy(x, partner, alpha):
        pairs.append((x[:,0], km.bank.specs[partner], alpha.flatten()))
        return mix(x, partner, alpha)
    monkeypatch.setattr(km, 'encodes', spy, raising=False)
    quiet(learn, learn.fit, 2, 1e-3)
    assert len(pairs)>=8
    for x,z,a in pairs:
        same = (x[:,None]==z[None]).flatten(2).all(2)
        assert not same.any() and (a>0).all()

def test_both_views_have_the_same_candidates_but_their_own_draw(tiny):
    learn = tiny(tfms='kmix')
    x = learn.dls.one_batch()[0]
    v1,v2 = learn.model.views(x)
    assert (v1!=x).flatten(1).any(1).all() and (v1!=v2).flatten(1).any(1).all()

@pytest.mark.parametrize('tfms', ['mixup','kmix','mixup kmix'])
def test_empty_bank_passes_the_clip(tfms):
    views,x = slicer_views(NormalizeSpec(), tfms, bank_size=16),torch.randn(5,1,64,96)
    assert all(torch.equal(v, x) for v in views(x))

def test_kmix_chooses_by_the_clean_clip(tiny):
    "Centroids, bank and clip are compared in one space: raw log-mels before mixup and crop"
    learn = tiny()
    views,seen = learn.model.views,[]
    km = views.kmix
    draw = km.draw
    km.draw = lambda x, clean: seen.append(clean) or draw(x, clean)
    x = learn.dls.one_batch()[0].as_subclass(Tensor)
    views(x)
    assert torch.equal(seen[0], torch.cat([x,x]))
    feats = F.normalize(torch.cat([b[0].as_subclass(Tensor) for _ in range(4) for b in learn.dls.train]).mean(-1)[:,0], dim=1)
    close(km.centroids.norm(dim=1), torch.ones(4)); assert (feats@km.centroids.T).amax(1).mean()>.9
