"Numbers one can steer by: columns that fastai's trackers read the right way, and a rate finder that leaves everything as it was"
from conftest import *
from fastai.callback.schedule import valley
from slicer_fastai.train.learner import before_collapse
import math

columns = ['valid_loss','instance_loss','cluster_loss','accuracy']

class Script(Callback):
    "Columns say what is written here, after the recorder and before the trackers"
    order = Recorder.order+5
    def __init__(self, col, seq): self.col,self.seq = col,seq
    def after_epoch(self): self.recorder.values[-1][list(self.recorder.metric_names[1:]).index(self.col)] = self.seq[self.epoch]

def better_and_worse(col): return ([.1,.5,.3,.2],[.5,.3,.2,.1]) if col=='accuracy' else ([3.,1.,2.,2.5],[1.,2.,3.,4.])

@pytest.mark.parametrize('col', columns)
def test_trackers_know_which_way_is_up(tiny, loaders, files, tmp_path, col):
    "Best in the second epoch is kept; what gets worse stops, and lowers the rate; what gets better does neither"
    l = tiny(loaders(files[:20], bs=8, valid_pct=.2, path=tmp_path), tfms='')
    turn,worse = better_and_worse(col)
    states = {}
    class Keep(Callback):
        def after_epoch(self): states[self.epoch] = state(self.model)
    quiet(l, l.fit, 3, 1e-3, cbs=[Keep(), Script(col, turn), SaveModelCallback(monitor=col)])
    assert not differ(state(l.model), states[1])                            # loaded at the end: the best epoch
    for seq,n in ((worse,2),(worse[::-1],4)):
        quiet(l, l.fit, 4, 1e-3, cbs=[Script(col, seq), EarlyStoppingCallback(monitor=col, patience=1)])
        assert len(l.recorder.values)==n, (col, seq)
        quiet(l, l.fit, 2, 1e-3, cbs=[Script(col, seq), ReduceLROnPlateau(monitor=col, patience=1, factor=10)])
        close(l.opt.hypers[-1]['lr'], 1e-4 if seq is worse else 1e-3)

def test_columns_of_a_fit(tiny, loaders, files):
    "Chance stands still from the first epoch on, and every column is a number"
    l = tiny(loaders(files[::2], valid_pct=.3), queue_size=24)
    assert l.model.queue_count==24
    quiet(l, l.fit, 3, 1e-3)
    df = pd.DataFrame(list(map(list, l.recorder.values)), columns=list(l.recorder.metric_names[1:-1]))
    assert list(df)==['train_loss','valid_loss','instance_loss','cluster_loss','accuracy','chance']
    close(df.chance, np.full(3, math.log(25))); assert np.isfinite(df.values).all() and df.accuracy.between(0, 1).all()
    close(df.valid_loss, 2*df.instance_loss+df.cluster_loss)

def test_lr_find_changes_nothing(tiny, loaders):
    "Bit for bit: the state, the optimiser, random numbers, and all losses of the fit that follows"
    def run(find):
        set_seed(3); l = tiny(loaders()); l.dls.rng.seed(3); quiet(l, l.fit, 1, 1e-3)
        set_seed(5); l.dls.rng.seed(5)
        before,opt,cbs = state(l.model),deepcopy(l.opt.state_dict()),sorted(map(repr, l.cbs))
        if find:
            quiet(l, l.lr_find, num_it=20, end_lr=1., show_plot=False)
            assert not differ(before, state(l.model)) and sorted(map(repr, l.cbs))==cbs
            assert l.opt.state_dict()['hypers']==opt['hypers']
            assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for a,b in zip(opt['state'], l.opt.state_dict()['state']) for k in a)
        quiet(l, l.fit, 1, 1e-3)
        return losses(l),state(l.model),(random.random(), np.random.rand(), float(torch.rand(1)), l.dls.rng.random())
    a,b = run(False),run(True)
    assert torch.equal(a[0], b[0]) and not differ(a[1], b[1]) and a[2]==b[2]

def test_proposed_rate(tiny):
    "Ours by default, by position as in fastai, others where asked for, none where none is wanted"
    l = tiny()
    find = lambda *a,**kw: quiet(l, l.lr_find, *a, show_plot=False, **kw)
    assert find(num_it=20)._fields==('before_collapse',)
    res = find(1e-6, 1., 20, suggest_funcs=(valley,before_collapse))
    assert res._fields==('valley','before_collapse') and all(1e-6<=o<=1 for o in res)
    assert find(num_it=20, suggest_funcs=None) is None

def test_proposal_from_a_known_curve():
    lrs,losses = torch.logspace(-7, 1, 100)[10:-5],torch.linspace(5, 3, 85)
    entropy = [4.8]*60+[4.8-.1*i for i in range(40)]                        # smoothed, below 4.8 - ln(4/3) at the fifth step
    got,point = before_collapse(lrs, losses, 100, entropy)
    i = int((lrs-got).abs().argmin())+10
    assert 63<=i<=65 and point[0]==got
    assert before_collapse(lrs, losses, 100, [4.8]*100)[0]==valley(lrs, losses, 100)[0]==before_collapse(lrs, losses, 100)[0]
    assert before_collapse(lrs[:20], losses[:20], 100, entropy)[0]==valley(lrs[:20], losses[:20], 100)[0]   # stopped before

def test_valid_bn_is_one_of_two():
    with pytest.raises(ValueError, match='valid_bn'): SLICER(valid_bn='both')
