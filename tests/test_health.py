"How a run is doing: measures, probes that don't disturb, and the sentence"
from conftest import *
from slicer_fastai.train.health import *
from scipy.linalg import svdvals
import re

def test_measures_against_numpy():
    z = torch.randn(40,12, generator=torch.Generator().manual_seed(0))@torch.randn(12,12)
    u = z.numpy()/np.linalg.norm(z, axis=1, keepdims=True)
    s = svdvals(z.numpy().astype('f8')); s /= s.sum()
    close(spread(z), u.std(0, ddof=1).mean()*12**.5)
    close(effective_rank(z), np.exp(-(s*np.log(s)).sum()), tol=1e-4)
    d2 = ((u[:,None]-u[None])**2).sum(-1)[np.triu_indices(40, 1)]
    close(uniformity(tensor(u)), np.log(np.exp(-2*d2).mean()))
    close(alignment(tensor(u[:20]), tensor(u[20:])), ((u[:20]-u[20:])**2).sum(1).mean())

def test_accuracy_of_known_keys(tiny, loaders):
    m,x = tiny(tfms='').model,loaders().one_batch()[0]
    look = lambda **kw: measure(m, x, **kw)['accuracy']
    m.enqueue(unit(8,16), unit(8,16, seed=1))                               # all 16 places of the queue
    assert look()==look(bn='running')==1                                    # untrained teacher = student, views alike: the key is the query
    with torch.no_grad():
        q = m.eval()(x, x)[0]
        m.teacher.instance.weight += .1*torch.randn_like(m.teacher.instance.weight)
    m.enqueue(q, q)
    assert look(bn='running')==0                                            # the queue holds the queries themselves, the teacher went elsewhere

@pytest.mark.parametrize('bn', ['batch','running'])
def test_measured_as_validated(tiny, loaders, bn):
    "On the same clips, `measure` and the columns say the same, whichever batch norm validation uses"
    l = tiny(loaders(valid_pct=.3, bs=16), tfms='', local_weight=0.)       # nothing drawn at random
    quiet(l, l.fit, 2, 1e-3)
    l.slicer.valid_bn = bn
    dl = l.dls.valid.new(bs=len(l.dls.valid_ds))
    close(quiet(l, l.validate, dl=dl)[1:], [measure(l.model, dl.one_batch()[0], bn=bn)[k] for k in l.metrics.attrgot('name')], tol=1e-4)
    parts = l.loss_parts
    measure(l.model, dl.one_batch()[0]); assert l.loss_parts is parts

@pytest.mark.parametrize('cbs', [lambda: [Health()], lambda: [KNNProbe(), LinearProbe(max_n=20)], lambda: [KNNProbe(), Health(8)]])
def test_looking_changes_nothing(files, loaders, tiny, cbs):
    def run(*cbs):
        set_seed(7)
        l = tiny(loaders(labels=files[::3].map(lambda f: f.parent.name<'h'), valid_pct=.3), seed=7, cbs=cbs)
        quiet(l, l.fit, 2, 1e-3)
        return l
    a,b = run(),run(*cbs())
    assert torch.equal(losses(a), losses(b))
    assert not differ(state(a.model), state(b.model))                       # BN statistics, queue, bank, pointer, centroids
    assert a.metrics.attrgot('name')==b.metrics.attrgot('name')             # columns are lent for the fit

def test_untouched_puts_back(tiny):
    m = tiny().model.train()
    m.student.encoder.body.conv.eval()
    modes,rng = [o.training for o in m.modules()],(random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist())
    with pytest.raises(KeyError):
        with untouched(m) as o:
            assert o is m and not any(x.training for x in m.modules()) and not torch.is_grad_enabled()
            random.random(); np.random.rand(); torch.rand(1)
            raise KeyError
    assert modes==[o.training for o in m.modules()] and torch.is_grad_enabled()
    assert rng[0]==random.getstate() and torch.equal(rng[1], torch.get_rng_state()) and rng[2]==np.random.get_state()[1].tolist()

def test_probe_columns_say_what_the_probe_says(files, tiny, loaders):
    fs,ys = files[1::3],files[1::3].map(parent_label)
    l = tiny(loaders(labels=files[::3].map(parent_label)), cbs=[KNNProbe((fs,ys), (files[2::3],files[2::3].map(parent_label))), Health()])
    quiet(l, l.fit, 1, 1e-3)
    assert l.recorder.metric_names[-2]=='knn' and l.recorder.values[-1][-1]==l.health_log[-1]['knn']
    with untouched(l.encoder) as enc: x,xt = [enc(enc.front.specs(o).as_subclass(Tensor)).numpy() for o in (fs,files[2::3])]
    assert l.health_log[-1]['knn']==knn_probe(None, (x,ys), (xt,files[2::3].map(parent_label)))
    res = quiet(l, l.validate)
    assert res[-1]==l.health_log[-1]['knn']
    quiet(l, l.lr_find, num_it=10, show_plot=False); quiet(l, l.get_preds)
    assert len(l.health_log)==2                                             # these are no epochs
    l.export('x.pkl')
    assert load_learner(l.path/'x.pkl').health_log[-1]==l.health_log[-1]

def test_probe_without_labels_says_so(tiny):
    with pytest.raises(ValueError, match='needs labels'): quiet(l := tiny(cbs=KNNProbe()), l.fit, 1)
    with pytest.raises(ValueError, match='test is missing'): quiet(l := tiny(cbs=KNNProbe((['a.wav'],[0]))), l.fit, 1)
    with pytest.raises(ValueError, match='Health'): tiny().diagnose()

def test_untrained_is_kept(tiny, loaders, files):
    "Measured before the first step of all, whatever comes later; what goes on from a saved model does not claim to know it"
    def make(): return tiny(loaders(labels=files[::3].map(lambda f: f.parent.name<'h'), valid_pct=.3), cbs=[KNNProbe(), Health()])
    l = make()
    quiet(l, l.fit, 2, 1e-2)
    was = l.knn_probe.untrained
    assert was==l.health_log[0]['knn']==l.health_log[-1]['knn_untrained']
    quiet(l, l.validate); quiet(l, l.lr_find, num_it=10, show_plot=False); quiet(l, l.fit, 1, 1e-3)
    assert l.knn_probe.untrained==was==l.health_log[-1]['knn_untrained']
    other = make(); other.model.load_state_dict(l.model.state_dict())
    quiet(other, other.fit, 4, 1e-3, start_epoch=2)
    assert np.isnan(other.knn_probe.untrained) and 'the start of this fit' in other.diagnose()
    assert [o['epoch'] for o in other.health_log]==[2,3,4]

class Break(Callback):
    "Ctrl-C in the middle of an epoch, or of its validation"
    def __init__(self, training): self.at = training
    def after_loss(self):
        if self.learn.training==self.at and self.learn.epoch==1: raise KeyboardInterrupt

@pytest.mark.parametrize('training', [True,False])
def test_an_interrupt_leaves_nothing_behind(tiny, loaders, files, training, tmp_path):
    l = tiny(loaders(labels=files[::3].map(lambda f: f.parent.name<'h'), valid_pct=.3), cbs=[KNNProbe(), Health()])
    names = list(l.metrics.attrgot('name'))
    with pytest.raises(KeyboardInterrupt): quiet(l, l.fit, 3, 1e-3, cbs=Break(training))
    assert list(l.metrics.attrgot('name'))==names and len(l.health_log)==2
    assert l.diagnose().startswith('early: 1 epoch,')
    l.export('x.pkl'); back = load_learner(l.path/'x.pkl')
    assert back.health.held is None and back.knn_probe.held is None and back.diagnose()==l.diagnose()
    quiet(l, l.fit, 2, 1e-3)
    assert list(l.recorder.metric_names).count('knn')==1 and [o['epoch'] for o in l.health_log]==[0,1,2]
    assert len(l.recorder.values[-1])==len(l.recorder.metric_names)-2      # epoch and time are no values

def test_health_after_other_verbs(tiny, loaders, files, tmp_path):
    "After validate, in a learner loaded, after start_epoch: the same; where nothing was measured, one sentence"
    l = tiny(loaders(files[::2], valid_pct=.3), cbs=Health())
    with pytest.raises(ValueError, match='no fit yet'): l.diagnose()
    quiet(l, l.fit, 2, 1e-3)
    said = l.diagnose()
    quiet(l, l.validate); assert l.diagnose()==said and len(l.plot_health())==8
    l.export('x.pkl'); assert load_learner(l.path/'x.pkl').diagnose()==said
    quiet(l, l.fit, 3, 1e-3, start_epoch=2); assert [o['epoch'] for o in l.health_log]==[2,3]
    assert l.diagnose().startswith('early') and len(l.plot_health())==8
    with pytest.raises(ValueError, match='cbs=Health'): tiny().plot_health()
    plt.close('all')

def test_nothing_is_shadowed(tiny, loaders, files, recwarn):
    l = tiny(loaders(labels=files[::3].map(lambda f: f.parent.name<'h'), valid_pct=.3), cbs=[KNNProbe(), LinearProbe(), Health()])
    quiet(l, l.fit, 1, 1e-3); quiet(l, l.validate)
    assert not [str(w.message) for w in recwarn if 'shadowing' in str(w.message)]

# runs that fail, and what is said

made = dict(diverged=dict(n=2, lr=1e3), collapsed=dict(n=5, lr=.3), too_easy=dict(n=5, lr=3e-3, tfms=''), early=dict(n=1, lr=1e-3))
@pytest.mark.parametrize('name', made)
def test_made_to_fail(files, tiny, loaders, name):
    kw = dict(made[name]); n,lr = kw.pop('n'),kw.pop('lr')
    l = tiny(loaders(files[::2], valid_pct=.3), cbs=Health(), **kw)
    quiet(l, l.fit, n, lr)
    assert l.diagnose().startswith(name.replace('_',' ')+':'), (l.diagnose(), l.health_log)

def test_weights_decayed_away(tiny, loaders, files):
    l = tiny(loaders(files[::2], valid_pct=.3), cbs=Health())
    quiet(l, l.fit, 2, 1e-2, wd=40.)
    assert l.diagnose().startswith('collapsed:') and l.health_log[-1]['rank']<1.5

def test_healthy(tiny, files, loaders):
    l = tiny(loaders(files, valid_pct=.3, bs=16), cbs=Health(), tfms='kmix')
    quiet(l, l.fit_one_cycle, 8, 3e-3)
    assert l.diagnose().split(':')[0] in ('learning','cut short','finished'), (l.diagnose(), l.health_log)

def test_stopped_by_nan_is_told(tiny):
    l = tiny(cbs=[Health(), TerminateOnNaNCallback(), Spy(before_batch=lambda l: [p.data.fill_(math.nan) for p in l.model.student.instance.parameters()] if l.iter==1 else None)])
    quiet(l, l.fit, 3, 1e-3)
    assert l.diagnose().startswith('diverged:'), l.health_log

good = [dict(epoch=i, loss=5., instance_loss=4-.3*i, chance=4.5, cluster_loss=3., accuracy=.1*i, spread=.5, spread_q=.8, rank=20., alignment=.4, uniformity=-2.,
    clusters=12, entropy=2.5, n_clusters=32, teacher=.1, queue=1., clips=64, knn=.2+.05*i, knn_n=2500, knn_untrained=.2) for i in range(7)]
def logs(change):
    "The good run with what `change` changes: fixed values after the first row, or a function of the epoch"
    return [{**o, **(change(i) if callable(change) else change if i else {})} for i,o in enumerate(good)]
def no_probe(log): return [{k:v for k,v in o.items() if not k.startswith('knn')} for o in log]
def lrs(i): return dict(lr=math.nan if i==0 else [.4,1.,.8,.5,.2,.01][i-1])

flat = dict(instance_loss=4., knn=.3)
rules = [('learning', {}), ('levelled off', flat), ('learning', dict(instance_loss=4.)), ('nothing gained', dict(flat, knn_n=20)), ('nothing gained', dict(flat, knn=.21)),
    ('worse than before', dict(instance_loss=4., knn=.18)), ('worse than before', dict(knn=.18)), ('unsettled', lambda i: dict(instance_loss=3.+.15*i, knn=.3)), ('unsettled', lambda i: dict(instance_loss=3.+.15*i-.59*(i>1), knn=.3)),
    ('getting worse', lambda i: dict(instance_loss=3.+.15*i-.61*(i>1), knn=.3)),
    ('learning', lambda i: dict(instance_loss=3.+.15*i)), ('levelled off', lambda i: dict(instance_loss=3.+.025*i, knn=.3)), ('learning', lambda i: dict(instance_loss=4-.3*min(i, 4))),
    ('levelled off', lambda i: dict(instance_loss=4-.3*min(i, 3), knn=.3)), ('learning', lambda i: dict(instance_loss=4-.3*min(i, 4), knn=.3+.02*(i%2))),
    ('levelled off', lambda i: dict(instance_loss=4.+.03*(i%3), knn=.3+.02*(i%2), knn_n=500)), ('cut short', lrs), ('finished', lambda i: {**lrs(i), **flat}),
    ('nothing gained', lambda i: {**lrs(i), **flat, 'knn':.21, 'instance_loss':4. if i else 4.4}), ('not learning', lambda i: {**lrs(i), **flat, 'knn':.21}), ('getting worse', lambda i: {**lrs(i), 'instance_loss':3+.15*i-.61*(i>1), 'knn':.3}),
    ('not learning', lambda i: {**lrs(i), 'instance_loss':4.3-.03*i, 'knn':.2}), ('cut short', lambda i: {**lrs(i), 'instance_loss':4.3-.1*i, 'knn':.2}),
    ('collapsed', dict(spread_q=.099)), ('too few clips', dict(valid_clips=11)), ('learning', dict(valid_clips=12)), ('worse than before', dict(valid_clips=11, knn=.1)), ('learning', dict(spread_q=.11)), ('one cluster', dict(entropy=.3)), ('not learning', dict(instance_loss=4.45, knn=.2)), ('learning', dict(instance_loss=4.45)),
    ('levelled off', dict(instance_loss=4.45, knn=.3)), ('too easy', dict(accuracy=.96, knn=.3)), ('too easy', dict(accuracy=.96, knn_n=25)), ('learning', dict(accuracy=.96)),
    ('too easy', dict(alignment=.02, knn=.3)), ('diverged', dict(instance_loss=7.)), ('diverged', dict(loss=math.nan))]
@pytest.mark.parametrize('name,change', rules)
def test_rules_at_their_edges(name, change):
    log = logs(change)
    assert health_sentence(log).startswith(name+':'), health_sentence(log)
    agrees(log)

def agrees(log):
    "A sentence against the figures it was made from, by other means than the rules'"
    s,last = health_sentence(log),log[-1]
    name,at = s.split(':')[0],[o['instance_loss'] for o in log]
    assert '\n' not in s and len(s)<320, s
    slope = lambda k: np.polyfit(range(k+1), at[-k-1:], 1)[0]*k
    if m := re.search(r'(fell|rose) by ([\d.]+) nats in the last (\d+) epochs', s):
        d = slope(int(m[3]))
        assert abs(abs(d)-float(m[2]))<.006 and (abs(d)<.006 or (m[1]=='fell')==(d<0)), s
        if name in ('levelled off','finished','nothing gained'): assert float(m[2])<=.02*last['chance']+.006, s
        if name in ('getting worse','unsettled'): assert m[1]=='rose' and float(m[2])>=.02*last['chance']-.006, s
        if name in ('learning','cut short'): assert m[1]=='fell' or 'knn rose' in s, s
    if m := re.search(r'instance loss (-?[\d.]+) nats \(chance ([\d.]+)\), accuracy (\d+)%', s): close([float(o) for o in m.groups()], [last['instance_loss'],last['chance'],100*last['accuracy']], .006)
    if 'knn_n' not in last: assert 'without labels' in s, s
    elif last['knn']!=last['knn']: assert 'not a number' in s, s
    else:
        a,b,n = last['knn_untrained'],last['knn'],last['knn_n']
        se = max(b*(1-b), 1/n)**.5/n**.5
        word = 'better than' if b-a>2*se else 'worse than' if a-b>2*se else 'no gain over'
        assert f'knn {a:.0%} → {b:.0%} ± {se:.0%}: {word} the untrained encoder' in s, s
        if word!='better than': assert name not in ('levelled off','finished'), s       # they would praise what gained nothing
        if word=='better than': assert name not in ('not learning','nothing gained','worse than before'), s
        if 'knn rose' in s: assert max(o['knn'] for o in log[-3:])>min(o['knn'] for o in log), s
    assert re.search(r'; [^;]+$', s), s                                     # the remedy stands last
    return name

kinds = dict(learning=({}, 'train on'), no_labels=(None, 'without labels'), flat_and_better=(flat, 'better than the untrained'), flat_for_nothing=(dict(flat, knn=.205), 'more clips, or other views'),
    rising=(lambda i: dict(instance_loss=3+.15*i-.8*(i>1), knn=.3), 'rose by 0.45 nats in the last 3 epochs'), forgetting=(dict(knn=.15), '20% → 15% ± 1%: worse than the untrained'),
    collapse=(dict(spread_q=.01, rank=1.1, instance_loss=4.5, knn=.056), 'one direction'), one_cluster=(dict(entropy=.1), '1.1 of 32 in use'),
    broken=(lambda i: dict(loss=math.nan, instance_loss=math.nan, knn=math.nan) if i==6 else {}, 'knn 20% → not a number'), schedule_over=(lrs, 'a longer schedule'))
@pytest.mark.parametrize('kind', kinds)
def test_sentences_of_kinds_of_run(kind):
    change,says = kinds[kind]
    log = logs(change or {}) if change is not None else no_probe(good)
    agrees(log); assert says in health_sentence(log), health_sentence(log)

@hypothesis.given(hypothesis.strategies.integers(0, 10**6), hypothesis.strategies.integers(1, 12), hypothesis.strategies.booleans())
@hypothesis.settings(max_examples=200)
def test_no_sentence_contradicts_its_figures(seed, n, probe):
    "Random walks of loss and probe"
    rng = np.random.default_rng(seed)
    walk = lambda a,s,lo,hi: np.clip(a+rng.normal(0, s*rng.integers(0, 3), n+1).cumsum(), lo, hi)
    loss,knn,lr,m = walk(3.8, .2, .1, 6.), walk(.4, .04, .0, 1.), walk(1., .3, .01, 2.), int(rng.choice([50,300,2500]))
    log = [{**good[1], 'epoch':i, 'instance_loss':loss[i], 'knn':knn[i], 'knn_n':m, 'knn_untrained':knn[0], 'lr':lr[i]} for i in range(n+1)]
    agrees(log if probe else no_probe(log))

def test_what_only_rises_is_unsettled_for_ten_epochs():
    for n,name in ((9,'unsettled'),(10,'getting worse')):
        log = [{**good[1], **flat, 'epoch':i, 'instance_loss':3+.1*i} for i in range(n+1)]
        assert agrees(log)==name

def test_noise_of_a_probe_is_binomial():
    "A rise of 8 points: noise of 50 clips, learning with 1000"
    log = [{**o, **flat, 'knn':.5+.08*(i>4), 'knn_untrained':.5} for i,o in enumerate(good)]
    for n,name in ((50,'nothing gained'), (1000,'learning')): assert health_sentence([{**o, 'knn_n':n} for o in log]).startswith(name), n
    assert '50% → 58% ± 7%' in health_sentence([{**o, 'knn_n':50} for o in log])

@pytest.mark.parametrize('lr,says', [([.1]*7, 'a lower lr'), ([math.nan,.4,1.,.8,.5,.2,.01], 'stop here')])
def test_flat_end_of_a_schedule(lr, says):
    assert health_sentence([{**o, **flat, 'lr':l} for o,l in zip(good, lr)]).find(says)>0

def test_short_real_run_is_learning():
    "Instance losses of four epochs on recordings, falling from 7.6 to 5.2 by leaps: no third of it is flat"
    for n in (2,3,4): assert health_sentence([{**o, 'knn':.4, 'knn_n':300, 'knn_untrained':.4, 'chance':7.6, 'instance_loss':l} for o,l in zip(good, [7.5,6.1,5.5,5.3,5.2][:n+1])]).startswith('learning:')

def test_rules_say_condition_and_remedy():
    names = [o.name for o in health_rules]
    assert len(names)==len(set(names)) and all(o.condition and o.remedy and callable(o.find) for o in health_rules)
    assert health_rules[names.index('one cluster')][1:3]==('exp(entropy) < 1.5 clusters', 'set entropy_weight=1')

def test_every_rule_is_tried(): assert {n for n,_ in rules}|{'early'}=={o.name for o in health_rules}

def test_the_last_row_of_the_log_is_that_of_the_table(tiny, loaders, files):
    "Validation in three batches of unequal size: the log has the table's figures, and the first row the same kind of figures"
    l = tiny(loaders(files, valid_pct=.3, bs=12), cbs=Health(n=8))
    quiet(l, l.fit, 2, 1e-3)
    columns = l.recorder.metric_names[3:-1]
    assert [l.health_log[-1][k] for k in columns]==l.recorder.values[-1][2:]
    new = tiny(loaders(files, valid_pct=.3, bs=12), cbs=Health(n=8))
    want = dict(zip(columns, quiet(new, new.validate)[1:]))
    quiet(new, new.fit, 1, 1e-3)
    close([new.health_log[0][k] for k in columns], [want[k] for k in columns], 1e-4)

def test_few_validation_clips_prove_nothing(tiny):
    l = tiny(cbs=Health())                                                # three of them
    quiet(l, l.fit, 3, 1e-3)
    assert l.diagnose().startswith('too few clips: ') and '3 validation clips are too few to tell' in l.diagnose()

def test_a_probe_knows_untrained_start_and_trained(tiny, loaders, files):
    "Training that goes on from an encoder: the start is that encoder, untrained the same network with random weights"
    dls = loaders(labels=files[::3].map(lambda f: f.parent.name<'h'), valid_pct=.3)
    l = tiny(dls, 'slicer-small', arch_kwargs=None, cbs=[KNNProbe(), Health()])
    quiet(l, l.fit, 1, 1e-3)
    probe = l.knn_probe
    with no_random(0): held = probe.held = probe.read_clips()
    small = AudioEncoder.from_pretrained('slicer-small')
    assert probe.start==probe.accuracy_of(small) and probe.untrained==probe.accuracy_of(small.untrained(42))
    assert l.health_log[-1]['knn_start']==probe.start and l.health_log[-1]['knn_untrained']==probe.untrained
    assert 'the encoder it began with' in l.diagnose()

def test_dashboard(tiny):
    l = tiny(cbs=Health())
    quiet(l, l.fit, 2, 1e-3)
    axs = l.plot_health()
    assert len(axs)==8 and all(ax.get_ylabel() and ax.get_title() for ax in axs)
    assert axs[0].figure._suptitle.get_text().replace('\n',' ')==l.diagnose()
    own = plt.subplots(2, 4)[1]
    assert l.plot_health(own)[0] is own[0,0]
    plt.close('all')
