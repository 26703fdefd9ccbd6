"""The losses and a whole training step: ours against SLICER written down as it is told.

    python -m benchmarks.step [--runs 5] [--bs 128] [--queue 65536] [--csv out.csv]

Cluster loss, forward and backward, against the usual broadcast cosine similarity (N × 2C × 2C); peak memory of both in fresh processes.
Step (from two views to updated teacher and queue) against two student passes, two teacher passes, a cloned queue, broadcast cosine, and a loop over
parameters for the teacher; same network, same optimiser, same numbers: the two losses are compared first. Our step also in bfloat16 where it is computed; on a GPU beside the bare network's forward + backward.
"""
import multiprocessing as mp, warnings
import torch.nn.functional as F
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.core.memory import *
from slicer_fastai.core.precision import computes_bf16
from benchmarks import *

def broadcast_cluster_loss(y1, y2, temp=1.):
    "Cosine similarity of all pairs of columns, by broadcasting"
    C,z = y1.shape[1],torch.cat([y1.T,y2.T])
    sim = F.cosine_similarity(z[:,None], z[None], dim=2)/temp
    sim = sim.masked_fill(torch.eye(2*C, dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(sim, torch.arange(2*C, device=z.device).roll(C))

def both_ways(f, y1, y2): f(y1.softmax(1), y2.softmax(1)).backward(); y1.grad = y2.grad = None

def _peak(which, N, C, q):
    torch.set_num_threads(1)
    f = dict(ours=cluster_loss, broadcast=broadcast_cluster_loss)[which]
    mk = lambda n: [torch.randn(n, C, requires_grad=True) for _ in range(2)]
    both_ways(f, *mk(2))                                                    # libraries and their workspaces are in memory now
    y,before = mk(N),peak_mb()
    both_ways(f, *y)
    q.put(peak_mb()-before)

def peak(which, N, C):
    "Growth of a fresh process' peak memory by one loss, MB"
    q = mp.get_context('spawn').Queue()
    p = mp.get_context('spawn').Process(target=_peak, args=(which, N, C, q)); p.start()
    r = q.get(); p.join()
    return r

class Plain(Module):
    "SLICER's step, told plainly"
    def __init__(self, model):
        m = deepcopy(model)
        self.student,self.teacher,self.queue,self.m,self.T,self.ptr = m.student,m.teacher,m.queue.clone(),m.momentum,m.temp,0
        for net in (self.student,self.teacher):
            net.encoder.body.to(memory_format=torch.contiguous_format)
            net.encoder.body.conv = nn.Sequential(*(nn.Sequential(c, b, relu, pool) for c,b,pool,relu in net.encoder.body.conv))    # in SLICER's order
        self.teacher.load_state_dict(self.student.state_dict())

    def instance(self, q, k):
        queue = self.queue.clone().detach()
        pos,neg = torch.einsum('nc,nc->n', q, k)[:,None],torch.einsum('nc,kc->nk', q, queue)
        logits = torch.cat([pos,neg], 1)/self.T
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))

    def loss(self, v1, v2):
        (q1,y1,_),(q2,y2,_) = self.student(v1),self.student(v2)
        with torch.no_grad(): (k1,*_),(k2,*_) = self.teacher(v1),self.teacher(v2)
        self.keys = torch.cat([k1,k2])
        return self.instance(q1, k2)+self.instance(q2, k1)+broadcast_cluster_loss(y1, y2)

    def step(self, opt, v1, v2):
        opt.zero_grad(); self.loss(v1, v2).backward(); opt.step()
        with torch.no_grad():
            for t,s in zip(self.teacher.parameters(), self.student.parameters()): t.data = t.data*self.m+s.data*(1-self.m)
            for k in self.keys: self.queue[self.ptr] = k; self.ptr = (self.ptr+1)%len(self.queue)

def our_step(m, opt, v1, v2, half=False):
    opt.zero_grad()
    with torch.autocast(v1.device.type, torch.bfloat16, enabled=half):
        ks = m.teach(v1, v2)
        loss = m.loss(m(v1, v2), *ks).loss
    loss.backward()
    opt.step(); m.update_teacher(); m.enqueue(*ks[:2])

def make(queue, d, dev):
    enc = AudioEncoder('audiontt', d=d)
    enc.norm = NormalizeSpec(-6., 2.)
    m = SlicerModel(enc, slicer_views(enc.norm), queue_size=queue, local_weight=0.).to(dev)
    m.queue.copy_(F.normalize(torch.randn_like(m.queue), dim=1)); m.queue_count.fill_(queue)
    return m.train()

def same_loss(m, p, v):
    "Both compute the same loss where batch norm and dropout leave them the same thing to do"
    m.eval(); p.eval()
    with torch.no_grad(): a,b = m.loss(m(*v), *m.teach(*v)).loss.item(),p.loss(*v).item()
    m.train(); p.train(); p.teacher.train()
    for o in p.teacher.modules():
        if isinstance(o, nn.Dropout): o.eval()
    test_close(a, b, eps=1e-3)

def gpu(m, opt, v, runs):
    "Clips a second of the step, share of the bare network, and the GPU's idle time, in float32 and bfloat16"
    x = torch.cat(v)
    def bare(half):
        with torch.autocast('cuda', torch.bfloat16, enabled=half): y = m.student(x)[0].sum()
        y.backward()
    for half in (False,True):
        step = lambda: our_step(m, opt, *m.views(v[0]), half)
        t = in_turn({'step':step, 'bare':lambda: bare(half)}, runs)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as prof: s = seconds(lambda: [step() for _ in range(10)])
        busy = sum(e.self_device_time_total for e in prof.key_averages())/1e6
        print(f"{'bfloat16' if half else 'float32':>9}: {len(v[0])/t['step']:8.0f} clips/s, bare network's forward + backward {100*t['bare']/t['step']:.0f} % of the step, GPU idle {100*max(0, 1-busy/s):.0f} %")

@call_parse
def main(
    runs:int=5,         # runs, of which the median counts
    bs:int=128,         # batch size of the step
    queue:int=65536,    # keys in the queue
    d:int=2048,         # size of AudioNTT's vectors
    n_clusters:int=128, # C of the cluster loss
    threads:int=1,      # of torch
    csv:Path=None,      # write the table there too
    loss_only:bool=False, # leave out the step
    cpu:bool=False,     # count processor time, for a machine that does other things too
):
    "Losses and training step"
    warnings.filterwarnings('ignore'); torch.set_num_threads(threads); set_seed(0); count_cpu(cpu)
    dev,rows = torch.device('cuda' if torch.cuda.is_available() else 'cpu'),[]
    for N in (128,1024):
        y = [torch.randn(N, n_clusters, device=dev, requires_grad=True) for _ in range(2)]
        test_close(cluster_loss(*[o.softmax(1) for o in y]), broadcast_cluster_loss(*[o.softmax(1) for o in y]), eps=1e-4)
        t = in_turn({'ours':lambda: both_ways(cluster_loss, *y), 'stand-in':lambda: both_ways(broadcast_cluster_loss, *y)}, runs)
        a,b = [peak(o, N, n_clusters) for o in ('ours','broadcast')]
        rows.append({'what':f'cluster loss, N={N}, C={n_clusters}', **t, 'peak memory':f'{a:.1f} / {b:.1f} MB = 1/{b/max(a, .1):.0f}'})
    if not loss_only:
        m = make(queue, d, dev); p = Plain(m)
        v = [torch.randn(bs,1,64,96, device=dev)*2-6 for _ in range(2)]
        same_loss(m, p, v)
        o1,o2 = [torch.optim.SGD(o.student.parameters(), lr=1e-4, momentum=.9) for o in (m,p)]
        several = 3                                                         # steps: as in a fit, ours keep their memory from step to step
        def ours(half=False):
            with kept_memory():
                for _ in range(several): our_step(m, o1, *v, half)
        def stand_in():
            for _ in range(several): p.step(o2, *v)
        steps = {'ours':ours, 'stand-in':stand_in}
        if dev.type=='cuda' or computes_bf16(): steps['half'] = partial(ours, half=True)
        t = in_turn(steps, runs, [several]*len(steps))
        name,half = f'training step, B={bs}, queue {queue}, AudioNTT d={d}',t.pop('half', None)
        rows.append({'what':name, **t})
        if half is not None: rows.append({'what':name+', ours in bfloat16', **t, 'ours':half})
    report(rows, runs, csv)
    if dev.type=='cuda' and not loss_only: m.views.kmix.fit(torch.randn(512,1,64,96)*2-6); m.views.push(v[0]); gpu(m, o1, v, runs)
