"What networks' outputs mean: own models of every kind, and one small model of many of timm's families"
import pytest, torch, timm
from torch import nn
from timm.models import register_model
from fastcore.test import test_eq as eq, test_close as close, test_fail as fails
from slicer_fastai.models.layout import *
from slicer_fastai.models.layout import _undisturbed
from slicer_fastai.models.encoder import AudioEncoder

torch.manual_seed(0)

class Patches(nn.Module):
    "Patches of 16 × 8, returned as `form` says"
    num_features = 24
    def __init__(self, form, **kwargs):
        super().__init__()
        self.form,self.proj,self.cls = form,nn.Conv2d(1, 24, (16,8), (16,8)),nn.Parameter(torch.randn(1, 2, 24))
        self.norm,self.drop = nn.BatchNorm2d(24),nn.Dropout(.5)
    def forward(self, x):
        y = self.drop(self.norm(self.proj(x))) # (B, 24, 4, T)
        rows,cols = y.flatten(2).mT,y.mT.flatten(2).mT
        cls = self.cls.expand(len(x), -1, -1)+rows.mean(1, keepdim=True)
        return dict(NCHW=lambda: y, NHWC=lambda: y.permute(0,2,3,1), NCWH=lambda: y.mT, NWHC=lambda: y.permute(0,3,2,1),
            rows=lambda: rows, columns=lambda: cols, channels_rows=lambda: rows.mT, frames=lambda: y.mean(2).mT,
            channels_frames=lambda: y.mean(2), prefix=lambda: torch.cat([cls, rows], 1), prefix_columns=lambda: torch.cat([cls, cols], 1),
            vector=lambda: y.mean((2,3)), tuple=lambda: (y.mean((2,3)), rows), frames_then_vector=lambda: (y.mean(2).mT, y.mean((2,3))),
            dict=lambda: {'patches':cols, 'mask':torch.ones(len(x), dtype=torch.bool)}, nested=lambda: [y.mean((2,3)), (y,)],
            mixed=lambda: rows[:, torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(0))],
            all_alike=lambda: rows.mean(1, keepdim=True).expand_as(rows))[self.form]()

def truth(net, x): return net.norm(net.proj(x)).mean(2).mT
forms = dict(NCHW='b c f t', NHWC='b f t c', NCWH='b c t f', NWHC='b t f c', rows='b (f t) c', columns='b (t f) c', channels_rows='b c (f t)', frames='b t c',
    channels_frames='b c t', prefix='b (f t) c', prefix_columns='b (t f) c', tuple='b (f t) c', frames_then_vector='b t c', dict='b (t f) c', nested='b c f t')

@pytest.mark.parametrize('form,axes', forms.items())
@pytest.mark.parametrize('told', [True, False])
def test_every_form_becomes_frames(form, axes, told):
    net = Patches(form).eval()
    if not told: net.num_features = None
    lay = find_layout(net)
    eq(lay.axes, axes); assert lay.ordered
    eq(lay.prefix, 2 if 'prefix' in form else 0)
    for n in (96,200,40):
        x = torch.randn(2, 1, 64, n)
        close(layout(net(x), lay), truth(net, x).detach(), 1e-4)

@pytest.mark.parametrize('form', ['vector', 'mixed', 'all_alike'])
def test_no_order_is_one_step(form):
    net = Patches(form).eval()
    lay = find_layout(net)
    assert not lay.ordered
    x = torch.randn(2, 1, 64, 96)
    close(lay(net(x)), truth(net, x).mean(1, keepdim=True).detach(), 1e-4)
    if form!='vector': assert 'no order in time' in repr(lay)

def test_network_is_as_before():
    net = Patches('rows').train(); net.norm.eval()
    bufs,state = [b.clone() for b in net.buffers()],torch.get_rng_state()
    a,b = find_layout(net),find_layout(net)
    eq(repr(a), repr(b))
    assert net.training and net.drop.training and not net.norm.training
    for o,p in zip(bufs, net.buffers()): eq(o, p)
    eq(state, torch.get_rng_state())

def test_told():
    net = Patches('NCHW'); net.frame_layout = 'b c t f'
    eq(find_layout(net).axes, 'b c t f')
    net.frame_layout = Layout('b (f t) c', rows=4)
    assert find_layout(net) is net.frame_layout
    fails(lambda: Layout('time'), contains='b c f t')
    fails(lambda: Layout('b (f t) c', rows=4)(torch.zeros(2,10,3)), contains='10 patches')

@register_model
def own_frames(pretrained=False, **kwargs): return Patches('frames')
@register_model
def own_columns(pretrained=False, **kwargs): return Patches('columns')

@pytest.mark.parametrize('name', ['own_frames', 'own_columns'])
def test_registered_model(name):
    enc = AudioEncoder(name, layers='top').eval()
    x = torch.randn(2, 1, 64, 200)
    close(enc.frames(x), truth(enc.body, enc.norm(x)), 1e-4)
    eq(enc(x).shape, (2, enc.num_features)); assert enc.any_length

def heard(enc, frames, n=8):
    "Mean distance of each step from the clicks that it hears best, and the steps' rank correlation with them"
    g,x = torch.Generator().manual_seed(7),None
    x = torch.randn(1, 1, 64, frames, generator=g).repeat(n+1, 1, 1, 1)
    for k in range(n): x[k+1, ..., k*frames//n:(k+1)*frames//n] = 3*torch.randn(64, (k+1)*frames//n-k*frames//n, generator=g)-1
    with _undisturbed(enc.body): y = enc.frames(x)
    r = (y[1:]-y[:1]).norm(dim=-1)
    r = r/r.mean(1, keepdim=True).clamp(min=1e-20)
    w = (r-r.amin(0)).square()
    at = (w*((torch.arange(n)+.5)/n)[:,None]).sum(0)/w.sum(0)
    want = (torch.arange(len(at))+.5)/len(at)
    return len(at),torch.corrcoef(torch.stack([at.argsort().argsort(), want.argsort()]).float())[0,1].item(),(at-want).abs().mean().item()

small = '''audiontt resnet18 convnext_atto vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 volo_d1_224 coat_lite_tiny coat_tiny levit_128s gmlp_ti16_224
    mambaout_femto mvitv2_tiny hiera_tiny_224 swin_tiny_patch4_window7_224 starnet_s050 edgenext_xx_small cait_xxs24_224 vit_tiny_patch16_dinov3_qkvb xcit_nano_12_p16_224'''.split()

@pytest.mark.parametrize('name', small)
def test_click_is_heard_in_its_place(name):
    torch.manual_seed(0)
    enc = AudioEncoder(name)
    enc.norm = nn.Identity()
    assert enc.layout.ordered, enc.layout
    for n in (96,192):
        T,corr,err = heard(enc, n)
        assert corr>.9 and err<max(.1, .5/T), f'{name}, {n} frames: {enc.layout}, rank correlation {corr:.2f}, error of place {err:.2f}'

@pytest.mark.parametrize('name', 'inception_v3 crossvit_tiny_240 convit_tiny nest_tiny'.split())
def test_cannot_take_a_spectrogram(name):
    with pytest.raises(ValueError) as e: AudioEncoder(name)
    for o in (name, '64 mel bands', 'audiontt', 'resnet18', 'convnext_atto'): assert o in str(e.value)
