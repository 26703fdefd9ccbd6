"""A large collection embedded by several processes, killed and started again.

    python -m benchmarks.embed_parts [--n 100000] [--parts 1000] [--processes 2] [--csv out.csv]

`n` clips of 0.3 s of noise, a tiny encoder (AudioNTT, d=32, width=8). The processes are forks with RANK and WORLD_SIZE set, as a launcher would,
one thread each. All are killed (SIGKILL) when a third of the parts is there, and started again. Times are the clock's; processor time is that of all processes.
"""
import os, resource, signal, tempfile, time, warnings
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.cli.main import slicer_embed

def make_clips(path, n, samples=4800):
    "`n` wav files, different stretches of one noise; a list of them"
    size = lambda n: n.to_bytes(4, 'little')
    head = b'RIFF'+size(36+2*samples)+b'WAVEfmt '+bytes.fromhex('10000000 0100 0100 803e0000 007d0000 0200 1000')+b'data'+size(2*samples)
    noise = (np.random.default_rng(0).normal(size=samples+n)*3000).astype('<i2').tobytes()
    names = []
    for i in range(n):
        if i%1000==0: d = path/f'{i//1000:04d}'; d.mkdir(parents=True)
        names.append(f'{d}/{i:07d}.wav')
        with open(names[-1], 'wb') as f: f.write(head+noise[2*i:2*(i+samples)])
    (path/'names.txt').write_text('\n'.join(names))
    return path/'names.txt'

def start(rank, p, *args):
    "A process that embeds its share"
    if pid := os.fork(): return pid
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(p))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try: slicer_embed(*args); os._exit(0)
    finally: os._exit(1)

@call_parse
def main(
    n:int=100_000,      # clips
    parts:int=1000,     # clips in a part
    processes:int=2,    # processes
    csv:Path=None,      # write the table there too
):
    "Parts that are there are kept, and nothing is missing in the end"
    torch.set_num_threads(1); warnings.filterwarnings('ignore')
    with tempfile.TemporaryDirectory() as tmp:
        tmp,rows,old = Path(tmp),[],{}
        names,out = make_clips(tmp/'clips', n),tmp/'vectors'
        AudioEncoder('audiontt', d=32, width=8, front=FrontEnd(duration=.3)).save_pretrained(tmp/'enc')
        args,all_parts = ([names], tmp/'enc', 'clip', None, False, out, parts),math.ceil(n/parts)
        there = lambda: {f.name:f.stat().st_mtime_ns for f in out.glob('part-*.parquet')}
        for kill in (True,False):
            t,cpu = time.perf_counter(),sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            pids = [start(r, processes, *args) for r in range(processes)]
            while kill and len(there())<all_parts/3: time.sleep(.1)
            if kill: [os.kill(o, signal.SIGKILL) for o in pids]
            [os.waitpid(o, 0) for o in pids]
            now,cpu = there(),sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])-cpu
            assert all(now[k]==v for k,v in old.items())                        # what was there was not made again
            rows.append(dict(run='killed' if kill else 'started again', clips=n, processes=processes, found=len(old), made=len(now)-len(old), of=all_parts,
                             seconds=round(time.perf_counter()-t, 1), cpu_seconds=round(cpu, 1)))
            print(rows[-1], flush=True); old = now
            if csv: pd.DataFrame(rows).to_csv(csv, index=False)
        files = pd.read_parquet(out, columns=['file']).file
        assert len(old)==all_parts and files.tolist()==names.read_text().split('\n')
        print(f'{len(files)} vectors, each clip once, in the order of the list')
