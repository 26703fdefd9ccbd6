"Published weights of AudioNTT: the same vectors by other names, and nothing in the file is run"
from conftest import *
import os

def published(d=48, width=8, n_mels=64, blocks=3, seed=0):
    "A network as BYOL-A's papers describe it: convolution, batch norm, ReLU, pooling; then the perceptron"
    set_seed(seed)
    features = []
    for i in range(blocks):
        features += [nn.Conv2d(width if i else 1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    flat = width*(n_mels//2**blocks)
    net = nn.ModuleDict(dict(features=nn.Sequential(*features),
                             fc=nn.Sequential(nn.Linear(flat, d), nn.ReLU(), nn.Dropout(.3), nn.Linear(d, d), nn.ReLU())))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, .1); m.running_var.uniform_(.5, 2); m.weight.data.uniform_(.5, 2); m.bias.data.normal_(0, .2)
    return net.eval()

@torch.no_grad()
def vectors(net, x, local=False):
    "Maximum and mean over time of the frames of a published network"
    x = net.features(x).permute(0, 3, 2, 1).flatten(2)
    y = net.fc(x)
    if local: y = torch.cat([x, y], -1)
    return y.amax(1)+y.mean(1)

@pytest.mark.parametrize('blocks,n_mels,prefix,wrap', [(3,64,'',None), (2,64,'',None), (3,80,'module.encoder.',None), (3,64,'',  'state_dict')])
def test_the_same_vectors_by_other_names(files, tmp_path, capsys, blocks, n_mels, prefix, wrap):
    net = published(blocks=blocks, n_mels=n_mels)
    state = {prefix+k:v for k,v in net.state_dict().items()}
    if prefix: state['module.projector.weight'] = torch.zeros(3)
    torch.save({wrap:state, 'epoch':3} if wrap else state, tmp_path/'w.pth')
    enc = AudioEncoder.from_weights(tmp_path/'w.pth', mean=-6., std=4.5)
    said = capsys.readouterr().out
    assert f'{blocks} blocks of 8 channels, {n_mels} mel bands, d=48' in said and 'licence' in said
    assert ('1 other tensors in it are not used, e.g. module.projector.weight' in said)==bool(prefix)
    assert enc.front==FrontEnd(n_mels=n_mels, n_fft=1024, hop_length=160, f_min=60., f_max=7800., level=None)
    x = enc.front.specs(files[:3]).as_subclass(Tensor)
    want = vectors(net, (x+6)/4.5, local=blocks==2)
    assert want.shape==(3, 48+(8*n_mels//4 if blocks==2 else 0)) and want.std(0).max()>1e-3
    assert torch.allclose(enc(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(enc.embed(files[:2], max_s=.95), AudioEncoder.from_pretrained(enc.save_pretrained(tmp_path/'e')).embed(files[:2], max_s=.95), atol=1e-5)

def test_what_does_not_fit_names_the_file(tmp_path):
    state = published().state_dict()
    def fails(change, say, **kwargs):
        torch.save({**state, **change}, tmp_path/'w.pth')
        with pytest.raises((ValueError,DamagedFile), match=f'w.pth.*{say}'): AudioEncoder.from_weights(tmp_path/'w.pth', **{'mean':0., 'std':1., **kwargs})
    fails({'fc.3.weight':torch.zeros(7, 48)}, r'\(7, 48\)')
    fails({'features.4.weight':torch.zeros(8, 9, 3, 3)}, 'size mismatch|loading')
    fails({}, '64 mel bands, the front end has 80', front=FrontEnd(n_mels=80))
    fails({}, 'std=0', std=0.)
    fails({}, 'mean=nan', mean=math.nan)
    for gone,say in (('features.0.weight','no features.0.weight'), ('fc.0.bias','lacks fc.0.bias'), ('features.5.running_var','lacks conv.1.1.running_var')):
        torch.save({k:v for k,v in state.items() if k!=gone}, tmp_path/'w.pth')
        with pytest.raises(ValueError, match=f'w.pth.*{say}'): AudioEncoder.from_weights(tmp_path/'w.pth', 0., 1.)

def test_nothing_in_the_file_is_run(tmp_path):
    class Run:
        def __reduce__(self): return os.system, (f'touch {tmp_path}/made',)
    torch.save({'features.0.weight':Run()}, tmp_path/'w.pth')
    (tmp_path/'v.pth').write_bytes(b'no weights')
    (tmp_path/'l.pth').symlink_to('/dev/zero')
    torch.save([1,2], tmp_path/'n.pth')
    for name in 'wvln':
        with pytest.raises(DamagedFile, match=f'{name}.pth'): AudioEncoder.from_weights(tmp_path/f'{name}.pth', 0., 1.)
    assert not (tmp_path/'made').exists()
