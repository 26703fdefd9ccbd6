"How a run is doing: measures, probes that don't disturb, and the sentence"
from conftest import *
from slicer_fastai.health import *
from scipy.linalg import svdvals

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
    assert np.isnan(measure(m, x)['accuracy'])                              # an empty queue asks nothing
    m.enqueue(unit(8,16), unit(8,16, seed=1))
    assert measure(m, x)['accuracy']==1                                     # untrained teacher = student, views alike: the key is the query
    with torch.no_grad():
        q = m.eval()(x, x)[0]
        m.teacher.instance.weight += .1*torch.randn_like(m.teacher.instance.weight)
    m.enqueue(q, q)
    assert measure(m, x)['accuracy']==0                                     # the queue holds the queries themselves, the teacher went elsewhere

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
    with untouched(l.encoder) as enc: x,xt = [enc(clip_specs(o, enc.audio)).numpy() for o in (fs,files[2::3])]
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
    l = tiny(loaders(files, valid_pct=.3, bs=16), cbs=Health(), tfms='crop kmix')
    quiet(l, l.fit_one_cycle, 6, 1e-3)
    assert l.diagnose().split(':')[0] in ('learning','levelled off'), (l.diagnose(), l.health_log)

def test_stopped_by_nan_is_told(tiny):
    l = tiny(cbs=[Health(), TerminateOnNaNCallback(), Spy(before_batch=lambda l: [p.data.fill_(math.nan) for p in l.model.student.instance.parameters()] if l.iter==1 else None)])
    quiet(l, l.fit, 3, 1e-3)
    assert l.diagnose().startswith('diverged:'), l.health_log

good = [dict(epoch=i, loss=5., instance=4-.3*i, chance=4.5, cluster=3., accuracy=.1*i, spread=.5, spread_q=.8, rank=20., alignment=.4,
    uniformity=-2., clusters=12, entropy=2.5, n_clusters=32, teacher=.1, queue=1., clips=64, knn=.2+.05*i) for i in range(7)]
flat = dict(instance=4., knn=.3)
rules = [('learning', {}), ('levelled off', flat), ('learning', dict(instance=4.)), ('levelled off', dict(instance=4., knn_n=20)), ('getting worse', lambda i: dict(instance=3.+.15*i-.61*(i>1), knn=.3)), ('levelled off', lambda i: dict(instance=3.+.15*i-.59*(i>1), knn=.3)),
    ('levelled off', lambda i: dict(instance=3.+.15*i, knn=.3)), ('learning', lambda i: dict(instance=3.+.15*i)), ('levelled off', lambda i: dict(instance=3.+.025*i, knn=.3)), ('learning', lambda i: dict(instance=4-.3*min(i, 4))),
    ('levelled off', lambda i: dict(instance=4-.3*min(i, 3), knn=.3)), ('learning', lambda i: dict(instance=4-.3*min(i, 4), knn=.3+.02*(i%2))), ('levelled off', lambda i: dict(instance=4.+.03*(i%3), knn=.3+.02*(i%2), knn_n=500)),
    ('collapsed', dict(spread_q=.099)), ('learning', dict(spread_q=.11)), ('one cluster', dict(entropy=.3)), ('not learning', dict(instance=4.45)),
    ('too easy', dict(accuracy=.96, knn=.3)), ('too easy', dict(accuracy=.96, knn_n=25)), ('learning', dict(accuracy=.96)), ('too easy', dict(alignment=.02, knn=.3)), ('diverged', dict(instance=7.)), ('diverged', dict(loss=math.nan))]
@pytest.mark.parametrize('name,change', rules)
def test_rules_at_their_edges(name, change):
    log = [{**o, **(change(i) if callable(change) else change if i else {})} for i,o in enumerate(good)]
    assert health_sentence(log).startswith(name+':'), health_sentence(log)
    assert '\n' not in health_sentence(log)

def test_noise_of_a_probe_is_binomial():
    "A rise of 8 points: noise of 50 clips, learning with 1000"
    log = [{**o, **flat, 'knn':.5+.08*(i>4)} for i,o in enumerate(good)]
    for n,name in ((50,'levelled off'), (1000,'learning')): assert health_sentence([{**o, 'knn_n':n} for o in log]).startswith(name), n
    assert '58% ± 7%' in health_sentence([{**o, 'knn_n':50} for o in log])

@pytest.mark.parametrize('lr,says', [([.1]*7, 'a lower lr'), ([math.nan,.4,1.,.8,.5,.2,.01], 'lr has run out')])
def test_flat_end_of_a_schedule(lr, says):
    assert says in health_sentence([{**o, **flat, 'lr':l} for o,l in zip(good, lr)])

def test_short_real_run_is_learning():
    "Instance losses of four epochs on recordings, falling from 7.6 to 5.2 by leaps: no third of it is flat"
    for n in (2,3,4): assert health_sentence([{**o, 'knn':.4, 'knn_n':300, 'chance':7.6*(i>0), 'instance':l} for i,(o,l) in enumerate(zip(good, [0,6.1,5.5,5.3,5.2][:n+1]))]).startswith('learning:')

def test_every_rule_is_tried(): assert {n for n,_ in rules}|{'early'}=={r[0] for r in health_rules}

def test_dashboard(tiny):
    l = tiny(cbs=Health())
    quiet(l, l.fit, 2, 1e-3)
    axs = l.plot_health()
    assert len(axs)==8 and all(ax.get_ylabel() and ax.get_title() for ax in axs)
    assert axs[0].figure._suptitle.get_text().replace('\n',' ')==l.diagnose()
    own = plt.subplots(2, 4)[1]
    assert l.plot_health(own)[0] is own[0,0]
    plt.close('all')
