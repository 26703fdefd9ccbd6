"""Distilling: does a small network that imitates slicer-base read as much as that does?

    python -m benchmarks.distil --data POOL --keep LEVERS --bf16 --out LEVERS/distilled
    cd LEVERS; python -m benchmarks.levers --data POOL --more MORE --keep . --bf16 --runs 'distilled'

POOL and LEVERS as for benchmarks.levers; teachers are shipped encoders or folders in LEVERS. The student, of slicer-small's shape, predicts the frames of the teachers' last convolution and first
linear layer, standardised, from its own by a linear map each, on windows of the pool. A training that was stopped goes on.
"""
import warnings
from fastcore.script import call_parse, store_true, CliError
import torch.nn.functional as F
from fastai.basics import *
from slicer_fastai.all import *
from .levers import extra, loaders, pack_of

class Imitation(Module):
    "How far a student's layers are from those of its teachers"
    imitated = 'conv3','fc1'
    def __init__(self, student, teachers):
        self.student = student
        self.teachers = [nn.ModuleList(teachers)]                        # in a list: not trained, not saved
        window = torch.zeros(1, 1, 64, 96)
        own,*theirs = [[o.shape[-1] for o in self.layers(enc, window)] for enc in (student,*teachers)]
        wanted = np.sum(theirs, 0).tolist()
        self.maps = nn.ModuleList([nn.Linear(*o) for o in zip(own, wanted)])
        self.standard = nn.ModuleList([nn.BatchNorm1d(o, affine=False) for o in wanted])

    def layers(self, enc, x): return [o for name,o in zip(enc.layers, enc.parts(x)) if name in self.imitated]

    def forward(self, x):  # log-mels (B, windows, 64, frames)
        x = x.as_subclass(Tensor).flatten(0,1)[:,None]
        with torch.no_grad():
            by_teacher = [self.layers(o, x) for o in self.teachers[0]]
            wanted = [norm(torch.cat(o, -1).flatten(0,1).float()) for norm,o in zip(self.standard, zip(*by_teacher))]
        own = [f(o).flatten(0,1) for f,o in zip(self.maps, self.layers(self.student, x))]
        return sum(F.mse_loss(a.float(), b) for a,b in zip(own, wanted))

class NoTargets(Callback):
    "The model's answer is its loss; fastai computes one only where there are targets"
    def before_batch(self): self.learn.yb = self.xb

def teacher(name, keep):
    "A shipped encoder or one of `keep`, on the bands of the small network"
    enc = AudioEncoder.from_pretrained(keep/name if (keep/name).is_dir() else name)
    if enc.net_mels:
        enc.front,enc.merge,enc.net_mels = FrontEnd.from_cfg({**enc.front.cfg, 'n_mels':enc.net_mels}),None,None
    return enc.requires_grad_(False)

@call_parse
def main(
    data:Path=None,     # folder with pretrain.csv
    keep:Path=Path('levers'), # the pack, and encoders
    teachers:str='slicer-base', # with spaces between
    out:Path=Path('distilled'), # the folder to write
    clips:int=60000,    # two windows of each, to the nearest whole pass
    seed:int=0,         # of the student's weights, and of the order
    bf16:store_true=False, # train in bfloat16
):
    "Train a student"
    if data is None: raise CliError('--data is missing: the folder with pretrain.csv')
    warnings.filterwarnings('ignore')
    data,keep,out = Path(data),Path(keep),Path(out)
    dls = loaders(pack_of(data, keep), extra)
    set_seed(seed)
    student = AudioEncoder.from_pretrained('slicer-small').untrained(seed)
    learn = Learner(dls, Imitation(student, [teacher(o, keep) for o in teachers.split()]), loss_func=lambda pred, *y: pred)
    if bf16: learn.to_bf16()
    with learn.no_bar(): learn.fit_one_cycle(max(1, round(clips/(len(dls.train)*dls.train.bs))), 1e-3, cbs=[NoTargets(), Resume(out/'state')])
    print(student.eval().save_pretrained(out))
