"fastai's verbs on a SlicerLearner"
from conftest import *
from fastai.callback.fp16 import MixedPrecision
import math

class Stop(Callback):
    "Ctrl-C in the middle of batch `n`, at `when`"
    def __init__(self, n=2, when='after_loss'): self.n,self.when = n,when
    def __call__(self, event_name):
        if event_name==self.when and self.learn.training and self.learn.iter==self.n: raise KeyboardInterrupt

def trained(learn, n=1, **kwargs):
    "Fit; every loss must be a number and the student must have moved"
    before = state(learn.model.student)
    quiet(learn, learn.fit, n, 1e-3, **kwargs)
    assert len(losses(learn)) and losses(learn).isfinite().all()
    assert all(np.isfinite(v) for v in learn.recorder.values[-1])
    assert differ(before, state(learn.model.student))
    return learn

def test_lr_find_puts_everything_back(tiny):
    learn = trained(tiny())
    before,opt = state(learn.model),deepcopy(learn.opt.state_dict())
    res = quiet(learn, learn.lr_find, num_it=10, end_lr=1., show_plot=False)
    assert 1e-7<res.before_collapse<1
    assert not differ(before, state(learn.model))
    after = learn.opt.state_dict()
    assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for a,b in zip(opt['state'], after['state']) for k in a)
    trained(learn)

def test_lr_find_before_any_fit(tiny):
    learn = tiny(); before = state(learn.model)
    quiet(learn, learn.lr_find, num_it=10, end_lr=1., show_plot=False)
    assert not differ(before, state(learn.model)) and entered(learn.model)==0

def test_fit_one_cycle_and_a_second_fit(tiny):
    learn = tiny(queue_size=1000)
    quiet(learn, learn.fit_one_cycle, 2, 1e-3)
    assert entered(learn.model)==2*4*16
    before = state(learn.model)
    quiet(learn, learn.fit_one_cycle, 1, 1e-3)
    assert entered(learn.model)==3*4*16                                  # goes on, starts nothing anew
    assert torch.equal(before['queue'][:128], learn.model.queue[:128])        # the newest keys entered behind them
    assert len(learn.cbs.filter(lambda o: isinstance(o, SLICER)))==1 and losses(learn).isfinite().all()

def test_a_batch_can_be_learned(tiny):
    "Two views and random keys, again and again: from chance to far below it"
    learn = tiny(queue_size=64)
    m,x = learn.model.train(),learn.dls.one_batch()[0]
    m.enqueue(unit(64,16), unit(0,16))
    v,k = m.views(x),unit(8,16, seed=3)
    opt,seen = torch.optim.Adam(m.student.parameters(), 3e-3),[]
    for _ in range(40):
        loss = m.loss(m(*v), k, k)
        loss.loss.backward(); opt.step(); opt.zero_grad()
        seen.append(float(loss.instance_loss))
    assert seen[0]>.7*math.log(65) and max(seen[-5:])<.3*seen[0], seen

@pytest.mark.parametrize('when', ['before_batch','after_pred','after_loss','before_step','after_step','after_batch'])
def test_fit_after_an_interrupt(tiny, when):
    learn = tiny(queue_size=1000)
    with pytest.raises(KeyboardInterrupt): quiet(learn, learn.fit, 1, 1e-3, cbs=Stop(when=when))
    n = entered(learn.model)
    assert n==32                                                            # the broken batch left nothing
    trained(learn)
    assert entered(learn.model)==n+64
    quiet(learn, learn.validate); learn.export('x.pkl')

def test_validate_and_get_preds_change_nothing(tiny):
    learn = trained(tiny())
    before = state(learn.model)
    res = quiet(learn, learn.validate)
    names = learn.recorder.metric_names[2:-1]
    assert list(names)==['valid_loss','instance_loss','cluster_loss','accuracy','chance'] and len(res)==5
    q1,q2,y1,y2,*_ = quiet(learn, learn.get_preds)[0]
    assert q1.shape==q2.shape==(3,16) and y1.shape==y2.shape==(3,8)
    close(q1.norm(dim=1), torch.ones(3)); close(y1.sum(1), torch.ones(3))
    preds,_ = quiet(learn, learn.get_preds, ds_idx=0)
    assert len(preds[0])==33
    quiet(learn, learn.validate, ds_idx=0)
    assert not differ(before, state(learn.model))
    quiet(learn, learn.get_preds, with_input=True)
    assert not differ(before, state(learn.model))

def test_valid_loss_is_the_sum_of_its_parts(tiny):
    learn = trained(tiny())
    valid,instance,cluster,accuracy,chance = quiet(learn, learn.validate)
    close(valid, 2*instance+cluster); close(chance, math.log(1+len(learn.model.queue)))

def test_columns_are_weighted_by_batch(tiny, loaders, files):
    "Validation batches of unequal size: the column is the mean over clips"
    learn = tiny(dls=loaders(files[:30], bs=4, valid_idx=list(range(6))), tfms='', cluster_weight=0.)
    learn.model.enqueue(unit(8,16), unit(8,16, seed=1))
    seen = []
    class See(Callback):
        def after_loss(self): seen.append((len(self.yb[0]), float(self.learn.loss_parts['instance_loss'])))
    res = quiet(learn, learn.validate, cbs=See())
    assert [n for n,_ in seen]==[4,2]
    close(res[1], sum(n*v for n,v in seen)/6)

def test_summary(tiny):
    learn = tiny(); before = state(learn.model)
    s = str(quiet(learn, learn.summary))
    assert 'Linear' in s and 'Total params' in s and 'Callbacks' in s
    assert not differ(before, state(learn.model))

@pytest.mark.parametrize('verb', ['summary','get_preds','validate','fit','lr_find'])
def test_verbs_warn_of_nothing_of_ours(tiny, verb, recwarn):
    learn = tiny()
    kw = dict(fit=dict(n_epoch=1), lr_find=dict(num_it=8, show_plot=False)).get(verb, {})
    quiet(learn, getattr(learn, verb), **kw)
    ours = [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]
    assert not [o for o in ours if 'shadowing' in o or 'slicer' in o], ours

def test_save_load_resume(tiny, tmp_path):
    a = trained(tiny(path=tmp_path)); a.save('run')
    b = tiny(path=tmp_path, seed=9); b.load('run')
    assert not differ(state(a.model), state(b.model))
    trained(b)
    assert entered(b.model)==128

def test_load_of_another_size_says_so(tiny, tmp_path):
    tiny(path=tmp_path).save('run')
    with pytest.raises(RuntimeError, match='instance'): tiny(path=tmp_path, dim=8).load('run')

def test_export_and_load_learner(tiny, files, tmp_path):
    learn = trained(tiny(path=tmp_path))
    want = learn.embed(files[:5], n_workers=1)
    learn.export('all.pkl')
    back = load_learner(tmp_path/'all.pkl')
    assert want.shape==(5,learn.encoder.num_features) and np.isfinite(want).all() and (want.std(0)>0).any()
    close(back.embed(files[:5], n_workers=1), want, 1e-6)
    assert not differ(state(learn.model), state(back.model))
    assert back.loss_func.__self__.unwrapped is back.model
    assert len((tmp_path/'all.pkl').read_bytes())<3e6
    trained(learn)                                                          # and the exported one goes on

def test_embed_is_the_encoder_on_windows(tiny, files):
    "By hand: read, level, log-mel, encoder in eval mode, frames of all windows in a row, max + mean"
    learn = trained(tiny(arch_kwargs=dict(encoder_kw, layers='fc1', pool='max+mean')))
    fn = next(f for f in files if 2.5<len(read_window(f, None))/16000<3.5)
    x = torch.from_numpy(read_window(fn, None))[None]
    n = 15200
    ws = [x[:,i:i+n] for i in range(0, x.shape[1]-n+1, n)]
    if x.shape[1]-len(ws)*n>n//4: ws.append(x[:,-n:])
    batch = AudioTensor(torch.stack(ws), sr=16000)
    enc = learn.encoder.eval()
    with torch.no_grad(): f = torch.cat(list(enc.frames(LogMel()(NormalizeLevel(enc.front.level)(batch)).as_subclass(Tensor))))
    assert len(ws)>1 and f.shape==(12*len(ws),32)
    learn.model.train()
    clip,frame = [learn.embed([fn], level, n_workers=1)[0] for level in ('clip','frame')]
    assert learn.encoder.training                                           # gives back what it borrowed
    close(frame, f); close(clip, f.max(0).values+f.mean(0))

def test_to_bf16_and_back(tiny):
    learn = tiny()
    learn.to_bf16(); trained(learn)
    quiet(learn, learn.validate)
    learn.to_fp32(); trained(learn)
    assert not learn.cbs.filter(lambda o: isinstance(o, MixedPrecision))

def test_autocast_around_teacher_and_student(tiny):
    learn,seen = tiny(),[]
    hook = learn.model.teacher.instance.register_forward_hook(lambda m,i,o: seen.append(o.dtype))
    trained(learn.to_bf16())
    hook.remove()
    assert set(seen)=={torch.bfloat16}                                      # the teacher runs as the student does
    assert learn.model.queue.dtype==torch.float32 and not torch.is_autocast_enabled('cpu')

class Overflow(Callback):
    "What MixedPrecision does when float16 overflows: no step in batches `which`"
    order = MixedPrecision.order
    def __init__(self, which): self.which = which
    def before_step(self):
        if self.iter in self.which: raise CancelStepException

@pytest.mark.parametrize('which', [(0,),(1,2),(3,),(0,1,2,3)])
def test_no_ema_where_the_step_was_skipped(tiny, which):
    learn,students,teachers = tiny(momentum=.5),[],[]
    flat = lambda m: torch.cat([p.detach().double().flatten() for p in m.parameters()])
    start = flat(learn.model.teacher)
    look = Spy(SLICER.order+.5, after_batch=lambda l: (students.append(flat(l.model.student)), teachers.append(flat(l.model.teacher))))
    quiet(learn, learn.fit, 1, 1e-3, cbs=[Overflow(which), look])
    want,old = start,start
    for i,(s,t) in enumerate(zip(students, teachers)):
        assert torch.equal(s, old)==(i in which)
        if i not in which: want = .5*want+.5*s
        close(t, want, 1e-6); old = s
    assert entered(learn.model)==16*(4-len(which))                       # nor do keys enter

def test_gradient_accumulation(tiny):
    learn = trained(tiny(), cbs=GradientAccumulation(16))
    assert len(losses(learn))==4
    quiet(learn, learn.validate)

def test_accumulated_gradient_is_the_sum(tiny):
    "Two batches of 8 with GradientAccumulation: the mean of their gradients, not one of them"
    got,single = [],[]
    for acc,out in ((True,got),(False,single)):
        learn = tiny(momentum=1., arch_kwargs=dict(encoder_kw, drop=0.), tfms='crop')
        set_seed(1); learn.dls.train.rng = random.Random(1)
        grad = lambda l: out.append(torch.cat([p.grad.flatten() for p in l.model.student.parameters()]).clone())
        quiet(learn, learn.fit, 1, 0., wd=0., cbs=[Spy(SLICER.order+.5, before_step=grad)]+([GradientAccumulation(16)] if acc else []))
    assert len(got)==2 and len(single)==4
    close(got[0], (single[0]+single[1])/2, 1e-4)

def test_save_model_callback(tiny, tmp_path):
    learn = trained(tiny(path=tmp_path), 2, cbs=SaveModelCallback(monitor='valid_loss', fname='best', every_epoch=True))
    assert {o.name for o in (tmp_path/'models').glob('*.pth')}>={'best_0.pth','best_1.pth'}
    now = state(learn.model); learn.load('best_0')
    assert differ(now, state(learn.model)); learn.load('best_1'); assert not differ(now, state(learn.model))
    trained(learn, cbs=SaveModelCallback(monitor='instance_loss'))
    assert (tmp_path/'models/model.pth').exists()

def test_csv_logger(tiny, tmp_path):
    trained(tiny(path=tmp_path), 2, cbs=CSVLogger('log.csv'))
    df = pd.read_csv(tmp_path/'log.csv')
    assert list(df)==['epoch','train_loss','valid_loss','instance_loss','cluster_loss','accuracy','chance','time'] and len(df)==2
    assert np.isfinite(df.iloc[:,1:-1].astype(float)).all(axis=None)

def test_other_callbacks_of_fastai(tiny):
    trained(tiny(), 2, cbs=[GradientClip(1.), TerminateOnNaNCallback(), EarlyStoppingCallback(patience=5), ReduceLROnPlateau(patience=5), TrackerCallback()])
    trained(tiny(), cbs=ShortEpochCallback(.5))
    quiet(l:=tiny(), l.fit_flat_cos, 1, 1e-3); assert losses(l).isfinite().all()

def test_freeze_and_unfreeze(tiny):
    learn = trained(tiny())
    bn = {id(p) for m in learn.encoder.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    enc = lambda: [p.detach().clone() for p in learn.encoder.parameters() if id(p) not in bn]       # fastai trains frozen batch norms
    heads = lambda: [p.detach().clone() for h in (learn.model.student.instance, learn.model.student.cluster) for p in h.parameters()]
    same = lambda a,b: [torch.equal(*o) for o in zip(a,b)]
    learn.freeze(); e,h = enc(), heads(); trained(learn)
    assert len(e)==10 and all(same(e, enc())) and not any(same(h, heads()))
    learn.unfreeze(); e = enc(); trained(learn)
    assert not any(same(e, enc()))
    assert not any(p.requires_grad for p in learn.model.teacher.parameters())

def test_freeze_wholly(tiny):
    learn = tiny(train_bn=False)
    learn.freeze(); e = state(learn.encoder.body.fc); b = [p.clone() for p in learn.encoder.parameters()]; trained(learn)
    assert not differ(e, state(learn.encoder.body.fc)) and all(torch.equal(*o) for o in zip(b, learn.encoder.parameters()))
    learn.freeze_to(0); trained(learn)
    assert not all(torch.equal(*o) for o in zip(b, learn.encoder.parameters()))

def test_rates_by_group(tiny):
    learn = tiny()
    quiet(learn, learn.fit_one_cycle, 1, slice(1e-5,1e-3))
    assert len(learn.opt.hypers)==2 and learn.opt.hypers[0]['lr']<learn.opt.hypers[1]['lr']
    n = [sum(p.numel() for p in g) for g in learn.opt.param_lists]
    assert n[0]==sum(p.numel() for p in learn.encoder.parameters()) and sum(n)==sum(p.numel() for p in learn.model.student.parameters())

def test_labelled_loaders_train_too(tiny, loaders, files):
    fs = files[::3]
    dls = loaders(labels=fs.map(parent_label))
    assert len(dls.one_batch())==2 and len(dls.vocab)==18
    learn = trained(tiny(dls=dls))
    assert entered(learn.model)==64
    quiet(learn, learn.validate); quiet(learn, learn.get_preds)
    quiet(learn, learn.lr_find, num_it=8, show_plot=False)

def test_label_func_on_a_folder(tiny, sounds, tmp_path):
    dls = SlicerDataLoaders.from_folder(sounds, label_func=parent_label, bs=48, num_workers=0, device='cpu')
    assert len(dls.vocab)==18 and len(dls.train_ds)==98
    trained(tiny(dls=dls, path=tmp_path))

def test_labels_change_nothing(tiny, loaders, files):
    "SLICER looks away: the same losses with labels and without"
    runs = []
    for labels in (None, files[::3].map(parent_label)):
        learn = tiny(dls=loaders(labels=labels, windows=1))
        set_seed(2); learn.dls.train.rng = random.Random(2)
        quiet(learn, learn.fit, 1); runs.append(losses(learn))
    close(*runs, 1e-6)

def own_net(): return nn.Sequential(nn.Conv2d(1,8,5,4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8,24,3,2), nn.ReLU())

@pytest.mark.parametrize('arch', ['own','vector','resnet18','convnext_atto'])
def test_other_encoders(tiny, loaders, files, arch):
    net = dict(own=own_net, vector=lambda: nn.Sequential(own_net(), nn.AdaptiveAvgPool2d(1), nn.Flatten())).get(arch, lambda: arch)()
    learn = tiny(dls=loaders(files[:6], bs=4, valid_pct=.34), arch=net, cbs=[])
    w = [p.detach().clone() for p in learn.model.teacher.parameters()]
    trained(learn)
    assert len(losses(learn))==1
    assert any(not torch.equal(a,b) for a,b in zip(w, learn.model.teacher.parameters()))
    n = 2*(64+dict(own=24, vector=24, resnet18=512, convnext_atto=320)[arch])     # mean and deviation, of the log-mel, too
    e = learn.embed(files[:2], n_workers=1, max_s=2.)
    assert e.shape==(2,n) and np.isfinite(e).all()

def test_an_encoder_ready_made(tiny, loaders):
    dls,enc = loaders(),AudioEncoder('audiontt', d=16, width=4)
    before = state(enc)
    learn = trained(tiny(dls=dls, arch=enc))
    assert not differ(before, state(enc)) and learn.encoder.front==dls.front

def test_workers(tiny, loaders):
    learn = trained(tiny(dls=loaders(num_workers=2)))
    assert len(losses(learn))==4

def test_every_switch_trains(tiny):
    "The ablation switches, all turned at once and one by one: every one changes the losses"
    seen = [losses(trained(tiny()))]
    for kw in (dict(tfms=''), dict(tfms='kmix crop'), dict(mix_domain='normalized'), dict(cluster_weight=0.), dict(cluster_target='teacher', entropy_weight=1.),
               dict(symmetric=False, teacher_bn='running', teacher_dropout=True, top_k=None, kmix_clusters=3, temp=.2, temp_c=.5, momentum=0., bank_size=5, queue_size=17)):
        seen.append(losses(trained(tiny(**kw))))
        assert not any(torch.equal(o, seen[-1]) for o in seen[:-1]), kw

def test_a_batch_cancelled_by_another_callback(tiny, loaders, files):
    "Before the views are made: nothing enters the queue, labels or not"
    class Cancel(Callback):
        order = SLICER.order-1
        def before_batch(self):
            if self.training and self.iter==1: raise CancelBatchException
    for labels in (None, files[::3].map(parent_label)):
        learn = tiny(dls=loaders(labels=labels), queue_size=1000)
        trained(learn, cbs=Cancel())
        assert entered(learn.model)==3*16

def test_pictures_change_nothing(tiny):
    learn = trained(tiny())
    before = state(learn.model)
    for verb in ('show_results','show_views','plot_clusters'): quiet(learn, getattr(learn, verb)); plt.close('all')
    assert not differ(before, state(learn.model))

def test_glibc_keeps_its_memory(tiny, monkeypatch):
    "During a fit, nested or broken off, and no longer"
    import slicer_fastai.core.memory as memory
    told = []
    monkeypatch.setattr(memory, 'set_allocator', told.append)
    class Listen(Callback):
        def after_epoch(self): self.learn.encoder.embed(list(np.ones((40,16000), np.float32)), sr=16000, bs=4)
    learn = tiny()
    quiet(learn, learn.fit, 1, cbs=Listen())
    assert told==[True,False]
    class Stop(Callback):
        def after_batch(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): quiet(learn, learn.fit, 1, cbs=Stop())
    assert told==[True,False]*2 and not memory.inside

def test_metrics_of_training(tiny):
    "recorder.train_metrics: the same columns for training clips, each a mean over its batches"
    learn,seen = tiny(),[]
    learn.recorder.train_metrics = True
    class See(Callback):
        def after_loss(self):
            if self.training: seen.append(float(self.learn.loss_parts['instance_loss']))
    quiet(learn, learn.fit, 1, 1e-3, cbs=See())
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    close(row['train_instance_loss'], np.mean(seen)); assert 0<=row['train_accuracy']<=1 and row['valid_instance_loss']>0

@pytest.mark.parametrize('cb', [MixUp, CutMix])
def test_mixing_labels_is_refused(tiny, cb):
    with pytest.raises(ValueError, match='k-mix mixes clips'): quiet(l := tiny(), l.fit, 1, cbs=cb())

def test_a_clip_has_no_loss_of_its_own(tiny):
    from fastai.interpret import Interpretation
    learn = tiny()
    for f in (lambda: learn.get_preds(with_loss=True), lambda: Interpretation.from_learner(learn)):
        with pytest.raises(ValueError, match='a clip has none of its own'): quiet(learn, f)
    with pytest.raises(ValueError, match='audio_learner'): learn.tta()
    trained(learn)                                                          # as if nothing had been asked

def test_another_loss_of_pairs(tiny):
    "It gets what student and teacher made of the views; its gradient is the step, SLICER's parts are measured beside it"
    seen = []
    class Predict(nn.Module):
        def __init__(self): super().__init__(); self.predict = nn.Linear(16, 16)
        def forward(self, student, teacher):
            seen.append((student, teacher))
            return (self.predict(student.z1)-teacher.z2).square().sum(1).mean()
    loss = Predict()
    learn = tiny(pair_loss=loss); before = state(loss)
    assert learn.model.pair_loss is loss and learn.model.local_weight==0 and any(k.startswith('pair_loss.') for k in learn.model.state_dict())
    assert any(p is loss.predict.weight for p in slicer_splitter(learn.model)[1])
    trained(learn)
    assert differ(before, state(loss))==['predict.weight','predict.bias'] and differ(state(learn.model.teacher), state(learn.model.student))
    student,teacher = seen[0]
    assert student.z1.requires_grad and not teacher.z2.requires_grad and student.z1.shape==teacher.z2.shape==(8,16)
    valid,instance,cluster,accuracy,chance = quiet(learn, learn.validate)
    with torch.no_grad(): close(valid, np.average([float(loss(s,t)) for s,t in seen[-1:]]), 1e-5)
    close(chance, math.log(1+len(learn.model.queue))); assert instance>0 and 0<=accuracy<=1

def test_a_pair_loss_that_is_slicers(tiny):
    "The instance loss written as a loss of pairs: the same steps as with cluster_weight=0"
    runs = []
    for kw in (dict(cluster_weight=0., local_weight=0.), dict(pair_loss='own')):
        learn = tiny(cluster_weight=0., local_weight=0.)
        if 'pair_loss' in kw:
            m = learn.model
            m.pair_loss = lambda s,t: instance_loss(s.z1, t.z2, m.queue, m.temp)+instance_loss(s.z2, t.z1, m.queue, m.temp)
        set_seed(2); learn.dls.train.rng = random.Random(2)
        quiet(learn, learn.fit, 1); runs.append(losses(learn))
    close(*runs, 1e-6)
