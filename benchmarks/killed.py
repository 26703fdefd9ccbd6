"Kill a run (SIGKILL) at random moments, let it go on, compare with a run that nobody killed: python -m benchmarks.killed --n 20"
from fastai.basics import *
from fastcore.script import call_parse
from slicer_fastai.all import *
from slicer_fastai.train.resume import state_bytes
from slicer_fastai.audio.synth import synth_sounds
import contextlib, mmap, random, shutil, signal, tempfile, traceback
from zlib import crc32

PHASES = 'reading','training','validation','saving'

class Marks(Callback):
    "Writes into shared memory what the run is at"
    def __init__(self, mem): self.mem = mem
    def before_train(self): self.mem[0] = 1
    def before_validate(self): self.mem[0] = 2

class MarkedResume(Resume):
    mem = None
    def save(self, *args, **kwargs):
        was,self.mem[0] = self.mem[0],3
        super().save(*args, **kwargs)
        self.mem[0] = was

def train(sounds, folder, mem, epochs):
    "The same run each time, saved after every batch; a checksum of all it ends with"
    torch.set_num_threads(1); warnings.simplefilter('ignore'); set_seed(1); default_device(False)
    dls = SlicerDataLoaders.from_folder(sounds, bs=8, num_workers=0, valid_pct=.25)
    learn = SlicerLearner(dls, arch_kwargs=dict(d=32, width=8), dim=16, n_clusters=8, hidden=32)
    MarkedResume.mem = mem
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, cbs=[Health(), Marks(mem), MarkedResume(folder, minutes=0)])
    rec = learn.recorder
    return crc32(state_bytes(dict(model=learn.model.state_dict(), opt=learn.opt.state_dict(), health=[{k:v for k,v in o.items() if k!='seconds'} for o in learn.health_log],
                                  **{k:getattr(rec, k) for k in ('losses','lrs','iters','values')})))

def process(*args, out):
    "`train` in a process of its own; its number"
    sys.stdout.flush()
    if pid := os.fork(): return pid
    try:
        with open(out.with_suffix('.log'), 'w') as f, contextlib.redirect_stdout(f): out.write_text(str(train(*args)))
    except BaseException: traceback.print_exc()
    finally: os._exit(0)

def kill(pid, mem, phase, seconds, rng):
    "Wait for a phase, or some seconds; then SIGKILL: what the run was at, None where it was over"
    t = time.time()
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if (mem[0]==phase and time.time()-t>seconds) if phase else (time.time()-t>seconds):
            time.sleep(rng.random()*.004)
            at = mem[0]
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
            return PHASES[at]
        time.sleep(.0005)

@call_parse
def main(
    n:int=20,       # kills
    epochs:int=3,   # of each run
    seed:int=0,     # of the moments
): # did all runs come to the same end?
    "A third of the kills at any time, the others in validation and while a state is written"
    rng,bad,k = random.Random(seed),0,0
    with tempfile.TemporaryDirectory() as t:
        t = Path(t); sounds,mem = synth_sounds(n=3, path=t/'sounds'),mmap.mmap(-1, 1)
        t0 = time.time(); os.waitpid(process(sounds, t/'whole', mem, epochs, out=t/'whole.txt'), 0)
        total,want = time.time()-t0,(t/'whole.txt').read_text()
        print(f'not killed: {total:.1f} s, checksum {want}')
        while k<n:
            mem[0] = 0
            args = sounds,t/f'run{k}',mem,epochs
            at = kill(process(*args, out=t/'cut.txt'), mem, (0,2,3)[k%3], rng.random()*total*.9, rng)
            if not at: shutil.rmtree(t/f'run{k}', ignore_errors=True); continue
            os.waitpid(process(*args, out=t/f'{k}.txt'), 0)
            got = (t/f'{k}.txt').read_text() if (t/f'{k}.txt').exists() else 'no end'
            said = (t/f'{k}.log').read_text().strip().split(': ')[-1] or 'begins anew'
            k,bad = k+1,bad+(got!=want)
            print(f'{k:2d}  killed in {at:10s}  {said:40s}  {"equal" if got==want else "DIFFERENT: "+got}', flush=True)
    print(f'{n-bad} of {n} came to the same end, bit for bit')
    if bad: raise SystemExit(1)
