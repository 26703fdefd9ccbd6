"Frames come in order of time: own networks of every layout, and a small model of some of timm's families"
from conftest import *
from timm.models import register_model
from slicer_fastai.core.state import *
from slicer_fastai.models.encoder import to_frames

class Patches(nn.Module):
    "Patches of 16 × 8, returned as `form` says"
    num_features = 24
    forms = {'b c f t':lambda y: y, 'b f t c':lambda y: y.permute(0,2,3,1), 'b c t f':lambda y: y.mT, 'b t f c':lambda y: y.permute(0,3,2,1),
             'b t c':lambda y: y.mean(2).mT, 'b c t':lambda y: y.mean(2)}
    def __init__(self, form, **kwargs):
        super().__init__()
        self.form,self.proj = self.forms.get(form, form),nn.Conv2d(1, 24, (16,8), (16,8))
        self.norm,self.drop = nn.BatchNorm2d(24),nn.Dropout(.5)
    def maps(self, x): return self.norm(self.proj(x))                       # (B, 24, 4, T)
    def forward(self, x): return self.form(self.drop(self.maps(x)))

def own(form, told=True):
    net = Patches(form)
    if told: net.frame_layout = form
    return net

def truth(enc, x): return enc.body.maps(enc.norm(x)).mean(2).mT

@pytest.mark.parametrize('form,told', [(f, True) for f in Patches.forms]+[('b c f t',False),('b t c',False)])
def test_every_layout_becomes_frames(form, told):
    enc = AudioEncoder(own(form, told), layers='top').eval()
    assert enc.moments==12 and enc.any_length
    for n in (96,200,40):
        x = torch.randn(2, 1, 64, n)
        close(enc.frames(x), truth(enc, x), 1e-4)

def test_vectors_are_one_frame():
    enc = AudioEncoder(Patches(lambda y: y.mean((2,3))), layers='top').eval()
    x = torch.randn(2, 1, 64, 96)
    assert enc.moments==1
    close(enc.frames(x), truth(enc, x).mean(1, keepdim=True), 1e-4)

@pytest.mark.parametrize('form', [lambda y: (y.mean((2,3)),y), lambda y: dict(maps=y), lambda y: y[...,None], lambda y: y.mean()])
def test_other_outputs_are_refused_with_the_attribute_to_set(form):
    with pytest.raises(ValueError, match='frame_layout'): AudioEncoder(Patches(form))

@pytest.mark.parametrize('layout', ['b t c', 'time', 'b c f x', 'c f t t'])
def test_a_layout_that_does_not_fit_is_refused(layout):
    with pytest.raises(ValueError, match='frame_layout'): to_frames(torch.zeros(2,3,4,5), layout)

def test_channels_that_are_not_where_they_should_be_are_noticed():
    with pytest.raises(ValueError, match='24 features.*frame_layout'): AudioEncoder(own('b f t c', told=False))

def test_the_network_is_as_before():
    net = own('b t c').train()
    net.norm.eval()
    before,random_state = state(net),torch.get_rng_state()
    AudioEncoder(net)
    assert net.training and net.drop.training and not net.norm.training
    assert not differ(before, state(net)) and torch.equal(random_state, torch.get_rng_state())

@register_model
def own_frames(pretrained=False, **kwargs): return own('b t c', told=False)
@register_model
def own_channels_last(pretrained=False, **kwargs): return own('b f t c')

@pytest.mark.parametrize('name', ['own_frames', 'own_channels_last'])
def test_registered_model(name):
    enc = AudioEncoder(name, layers='top').eval()
    x = torch.randn(2, 1, 64, 200)
    close(enc.frames(x), truth(enc, x), 1e-4)
    assert enc(x).shape==(2, enc.num_features) and enc.any_length

def clicks(frames, n=8):
    "Noise, and the same noise with something louder in each of `n` stretches of time (n+1, 1, 64, frames)"
    g = torch.Generator().manual_seed(7)
    x = torch.randn(1, 1, 64, frames, generator=g).repeat(n+1, 1, 1, 1)
    for k in range(n):
        a,b = k*frames//n,(k+1)*frames//n
        x[k+1,...,a:b] = 3*torch.randn(64, b-a, generator=g)-1
    return x

def places(enc, frames, n=8):
    "Where in time, 0…1, each frame of the output reacts most to clicks, and where it should"
    with eval_mode(enc.body), torch.no_grad():
        for o in batch_norms(enc.body): o.train()                           # running averages make new networks fade out
        y = enc.frames(clicks(frames, n))
    change = (y[1:]-y[:1]).norm(dim=-1)
    change = change/change.mean(1, keepdim=True).clamp(min=1e-20)
    weight = (change-change.amin(0)).square()
    middles = (torch.arange(n)+.5)/n
    at = (weight*middles[:,None]).sum(0)/weight.sum(0)
    return at,(torch.arange(len(at))+.5)/len(at)

small = '''audiontt resnet18 convnext_atto ghostnet_050 vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 levit_128s
    mambaout_femto mvitv2_tiny hiera_tiny_224 swin_tiny_patch4_window7_224 edgenext_xx_small xcit_nano_12_p16_224 fastvit_t8'''.split()

@pytest.mark.parametrize('name', small)
def test_a_click_is_where_it_should_be(name):
    torch.manual_seed(0)
    enc = AudioEncoder(name, layers='top')
    enc.norm = nn.Identity()
    for n in (96,192):
        at,want = places(enc, n)
        corr,err = torch.corrcoef(torch.stack([at.argsort().argsort(), want.argsort()]).float())[0,1].item(),(at-want).abs().mean().item()
        assert corr>.9 and err<max(.1, .5/len(at)), f'{name}, {n} frames: rank correlation {corr:.2f}, error of place {err:.2f}'

@pytest.mark.parametrize('name', 'inception_v3 crossvit_tiny_240 convit_tiny nest_tiny'.split())
def test_cannot_take_a_spectrogram(name):
    with pytest.raises(ValueError) as e: AudioEncoder(name)
    for o in (name, '64 mel bands', 'audiontt', 'resnet18', 'convnext_atto'): assert o in str(e.value)
