"""slicer-base from nothing to the file that ships: two small networks, trained apart, side by side in one of twice the width.

    python -m benchmarks.slicer_base --data POOL --keep LEVERS --out DIR               # the second of slicer-small and of random sounds
    python -m benchmarks.slicer_base --data POOL --keep LEVERS --out DIR --seed 1      # both trained anew

One network hears recordings (`slicer-small`, or for other seeds one trained by the same recipe), the other random sounds only, by the same recipe in half as many clips. Joined they are
an AudioNTT of d = 1,024 and 64 channels, read by `finer`. POOL and LEVERS as for benchmarks.levers, which also judges: `cd LEVERS; python -m benchmarks.levers … --runs DIR`.
A training that was stopped goes on.
"""
import warnings
from fastcore.script import call_parse, store_true, CliError
from fastai.basics import *
from slicer_fastai.all import *
from .levers import encoder_of, pack_of

#: Training of the second network, as benchmarks.levers has it
random_only = 'synth=1 norm=slicer-small'

def block_diagonal(a, b):
    "(o, i, …) and (p, j, …) → (o+p, i+j, …): outputs of the one take nothing from inputs of the other"
    res = a.new_zeros(len(a)+len(b), a.shape[1]+b.shape[1], *a.shape[2:])
    res[:len(a),:a.shape[1]],res[len(a):,a.shape[1]:] = a,b
    return res

def side_by_side(name, a, b, width):
    "One tensor of the joined network of those of two"
    if not a.ndim: return a                                              # normalisation, and counts of batches
    if a.ndim==1 or name=='body.conv.0.0.weight': return torch.cat([a, b])     # all channels hear the one log-mel
    if name=='body.fc.0.weight':                                         # its inputs are mel × channel
        by_channel = [o.unflatten(1, (-1,width)).mT for o in (a, b)]     # (d, width, mel)
        return block_diagonal(*by_channel).mT.flatten(1)
    return block_diagonal(a, b)

@torch.no_grad()
def renormalised(enc, norm):
    "An encoder that hears log-mels normalised otherwise as it did before, but for the zeros around the edges, which now are another mean"
    first = enc.body.conv[0][0]
    first.bias += (norm.mean-enc.norm.mean)/enc.norm.std*first.weight.sum((1,2,3))
    first.weight *= norm.std/enc.norm.std
    enc.norm = norm
    return enc

def joined(a, b):
    "One AudioNTT of twice the width and d, whose layers are those of two encoders side by side"
    assert (a.front, a.kwargs, a.layers)==(b.front, b.kwargs, b.layers)
    assert abs(a.norm.mean-b.norm.mean)<.1*a.norm.std, 'the edges would sound differently'
    b = renormalised(b, a.norm)
    width = a.kwargs['width']
    res = AudioEncoder(a.arch, front=a.front, layers=a.layers, pool=a.pool, changes=a.changes, **{k:2*v for k,v in a.kwargs.items()})
    theirs = b.state_dict()
    res.load_state_dict({name:side_by_side(name, x, theirs[name], width) for name,x in a.state_dict().items()})
    return res.eval()

@call_parse
def main(
    data:Path=None,      # folder with pretrain.csv
    keep:Path=Path('levers'),    # encoders and states, those of benchmarks.levers
    out:Path=Path('slicer-base'), # the folder to write
    seed:int=0,          # of both networks; 0: slicer-small is the first
    clips:int=262144,    # that the first network hears; the second hears half as many
    bf16:store_true=False, # train in bfloat16
):
    "Train what is not there yet, join, write in half precision"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv')
    warnings.filterwarnings('ignore')
    data,keep = Path(data),Path(keep)
    pack = pack_of(data, keep)
    first = encoder_of(pack, keep, 'small', 'none' if seed else 'slicer-small', seed, clips, bf16)
    second = encoder_of(pack, keep, 'small', random_only, seed, clips//2, bf16)
    res = joined(first.eval(), second.eval()).finer()
    print(f"{sum(p.numel() for p in res.parameters())/1e6:.2f} M parameters, {res.num_features:,} numbers: {res.half().save_pretrained(out)}")
