"Two processes train one model: forked once, they try many things and hand back what they saw"
from conftest import *
from contextlib import nullcontext
from functools import reduce
import os, sys, torch.distributed as dist, torch.multiprocessing as mp
from datetime import timedelta
from slicer_fastai.models.slicer import gather_rows

class Plain(nn.Sequential):
    "An encoder without batch norm, 3 moments a clip: `local_loss` chooses all that sound, nothing is random"
    def __init__(self): super().__init__(nn.Conv2d(1, 8, 8, 8), nn.GELU(), nn.Conv2d(8, 16, (2,4), (2,4)), nn.GELU())

class Idle(Plain):
    "One that has a layer for nothing"
    def __init__(self): super().__init__(); self.append(nn.Linear(2, 2))
    def forward(self, x): return reduce(lambda o,l: l(o), [*self][:4], x)

def plain(files, path, bs, arch=Plain, **kwargs):
    set_seed(3)
    dls = SlicerDataLoaders.from_lists(path, files, bs=bs, num_workers=0, device='cpu', windows=2)
    return SlicerLearner(dls, arch(), **{**model_kw, **dict(tfms='', queue_size=160, local_weight=1., entropy_weight=.5, opt_func=SGD), **kwargs})

def tiny_kmix(files, path):
    set_seed(4)
    dls = SlicerDataLoaders.from_lists(path, files, bs=8, num_workers=0, device='cpu', max_bad=1)
    return SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw, tfms='mixup kmix', queue_size=64)

def from_shards(index, path):
    set_seed(5)
    dls = SlicerDataLoaders.from_webdataset(index, path, bs=8, num_workers=0, device='cpu')
    return SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw, tfms='kmix', queue_size=64)

class Watch(Callback):
    "Sizes of batches, losses as recorded, and the gradients of the last step"
    def before_fit(self): self.sizes,self.step_losses = [],[]
    def after_batch(self):
        self.sizes.append((self.training, len(self.learn.yb[0]))); self.step_losses.append(float(self.learn.loss))
    def before_step(self): self.grads = [p.grad.clone() for p in self.learn.model.parameters() if p.grad is not None]

class Ask(Callback):
    "Ctrl-C in one process"
    def __init__(self, where, when): store_attr()
    def after_batch(self):
        if self.training and rank_distrib()==1 and (self.epoch,self.iter)==self.when: self.where.asked = True

def fit(learn, n, lr, *cbs, ctx=True):
    with learn.no_bar(), learn.no_logging():
        with learn.distrib_ctx() if ctx else nullcontext(): learn.fit(n, lr, cbs=list(cbs))
    return learn

def seen(learn, watch):
    m = learn.model
    return dict(student=m.student.state_dict(), teacher=m.teacher.state_dict(), queue=m.queue, count=m.queue_count, bank=[b.specs for b in m.views.banks],
        losses=list(learn.recorder.losses), steps=watch.step_losses, sizes=watch.sizes, grads=watch.grads, type=type(m).__name__,
        values=[[v for v in o if isinstance(v, (int,float))] for o in learn.recorder.values])

def error(f):
    try: f()
    except Exception as e: return f'{type(e).__name__}: {e}'

def work(rank, path, files, bad, index):
    "All that one of the two processes does"
    os.environ.update(WORLD_SIZE='2', LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT='29500', GLOO_SOCKET_IFNAME='lo', OMP_NUM_THREADS='1')
    torch.set_num_threads(1); warnings.simplefilter('ignore')
    dist.init_process_group('gloo', rank=rank, world_size=2, store=dist.FileStore(str(path/'store'), 2), timeout=timedelta(seconds=300))
    res = dict(unset=error(check_processes))                            # as accelerate's debug_launcher leaves it
    os.environ['RANK'] = str(1-rank); res['wrong'] = error(check_processes)
    os.environ['RANK'] = str(rank); join_processes()
    mine,wrote = path,[]
    sys.addaudithook(lambda e,args: wrote.append(str(args[0])) if e=='open' and {*str(args[1])}&{*'wax+'} and str(args[0]).startswith(str(path)) else None)
    out = lambda k, learn, w: res.update({k:seen(learn, w)})
    w = Watch(); out('plain', fit(plain(files, mine, 16), 4, .05, w), w)
    wrote.clear(); saving = SaveModelCallback('accuracy'),EarlyStoppingCallback('accuracy', patience=5),CSVLogger()
    w = Watch(); out('idle', fit(plain(files[:40], mine, 16, Idle), 1, .05, w, *saving), w); res['wrote'] = [*wrote]
    res['other_files'] = error(lambda: fit(plain(files[:40-rank], mine, 8), 1, .05))
    res['too_few'] = error(lambda: fit(plain(files[:20], mine, 16), 1, .05))
    w = Watch(); learn = tiny_kmix(bad, mine)
    out('bad', fit(learn, 2, .01, w, TerminateOnNaNCallback()), w); res['seed'] = torch.initial_seed()
    res['once'] = first_only(lambda: (num_distrib(), n_processes()))
    run = Resume(path/'run', ends=CancelFitException)
    w = Watch(); learn = fit(tiny_kmix(bad, mine), 2, .01, w, run, Ask(run, (1,0)))
    res['stopped'] = run.hit,learn.epoch,learn.iter
    w = Watch(); out('resumed', fit(tiny_kmix(bad, mine), 2, .01, w, Resume(path/'run')), w)
    res['lr_find'] = error(learn.lr_find)
    w = Watch(); out('shards', fit(from_shards(index, mine), 1, .01, w), w)
    torch.save(res, path/f'{rank}.pt')

@pytest.fixture(scope='module')
def two(files, tmp_path_factory):
    "What the two processes saw; and what one with twice the batch size does"
    path = tmp_path_factory.mktemp('two')
    bad = []
    for i,f in enumerate(files[:44]):                                   # 5 that cannot be read
        bad.append(path/'sounds'/f.parent.name/f.name); bad[-1].parent.mkdir(parents=True, exist_ok=True)
        bad[-1].write_bytes(b'no sound' if i in (7,8,9,20,30) else f.read_bytes())
    index = shard_folder(files[0].parents[1], path/'shards', files=files[:44], clips=10)
    mp.start_processes(work, args=(path, files, bad, index), nprocs=2, start_method='fork')
    return [torch.load(path/f'{r}.pt', weights_only=False) for r in (0,1)],path,bad

def same(a, b): return all(torch.equal(x, y) for x,y in zip(a, b, strict=True))

def apart(a, b):
    "Largest difference of two state dicts"
    return max(float((a[k].float()-b[k].float()).abs().max()) for k in a)

@pytest.mark.parametrize('run', ['plain','idle','bad','resumed','shards'])
def test_two_processes_have_one_model(two, run):
    a,b = [o[run] for o in two[0]]
    for k in ('student','teacher'): assert same(a[k].values(), b[k].values()), k
    assert same(a['grads'], b['grads']) and torch.equal(a['queue'], b['queue']) and a['count']==b['count']
    assert a['losses']==b['losses'] and a['steps']==b['steps'] and a['values']==b['values'] and len(a['values'])
    assert a['type']=='SlicerModel'                                     # unwrapped again

def test_two_are_one_with_twice_the_batch(two, files, tmp_path):
    "Weights, teacher, queue and losses of 12 steps, to 1e-5: cluster loss, entropy and moments over both halves"
    a,w = two[0][0]['plain'],Watch()
    one = fit(plain(files, tmp_path, 32), 4, .05, w)
    assert sum(t for t,_ in w.sizes)==12 and a['sizes'][0]==(True,16)
    for k in ('student','teacher'): assert apart(a[k], getattr(one.model, k).state_dict())<1e-5, k
    assert (a['queue']-one.model.queue).abs().max()<1e-5
    assert np.allclose(a['losses'], [float(o) for o in one.recorder.losses], atol=1e-5)
    start = plain(files, tmp_path, 32).model.student.state_dict()
    assert apart(start, a['student'])>1e-2                              # they did learn

def test_unreadable_files_cost_no_clip_and_no_process(two):
    "5 of 44, unevenly: batches are full in both processes, and equally many"
    a,b = [o['bad']['sizes'] for o in two[0]]
    assert a==b and {n for t,n in a if t}=={8} and sum(t for t,_ in a)==2*(40//16)

def test_banks_and_views_are_each_ones_own(two):
    (a,b),_,_ = two
    for x,y in zip(a['bad']['bank'], b['bad']['bank']): assert x.shape==y.shape and not torch.equal(x, y)
    assert b['seed']==a['seed']+1

def test_only_the_first_process_writes(two):
    (a,b),_,_ = two
    assert {'history.csv','model.pth'}<={Path(o).name.split('.pth')[0]+'.pth'*('.pth' in o) for o in a['wrote']} and not b['wrote']
    assert a['once']==(1,1) and b['once'] is None

def test_processes_are_checked(two):
    "RANK left out, or wrong; other files; too few clips: said in both, before anything waits"
    for r,o in enumerate(two[0]):
        assert f'number {r} of 2, but RANK is not set' in o['unset'] and 'debug_launcher' in o['unset'] and f'RANK is {1-r}' in o['wrong']
        assert 'process 1 has' in o['other_files'] and 'fewer than 2 processes' in o['too_few'] and 'one process' in o['lr_find']

def test_stopped_in_one_process_and_resumed_in_both(two, capsys):
    "Ctrl-C reaches one process: both stop after the same step; then all is as without the break, banks too"
    for o in two[0]:
        assert o['stopped']==(True,1,0)
        x,y = o['bad'],o['resumed']
        assert same(x['student'].values(), y['student'].values()) and same(x['bank'], y['bank']) and torch.equal(x['queue'], y['queue'])
        assert x['losses']==y['losses'] and x['values']==y['values']

def test_another_number_of_processes_is_told(two, capsys):
    "What two kept, one goes on from: at its end here, with a sentence"
    _,path,bad = two
    learn = tiny_kmix(bad, path/'third')
    fit(learn, 2, .01, Resume(path/'run'), ctx=False)
    assert 'started with 2 processes, continues with 1' in capsys.readouterr().out

def test_gathering_alone_is_nothing():
    x = torch.randn(2, 3, requires_grad=True)
    assert gather_rows(x) is x
