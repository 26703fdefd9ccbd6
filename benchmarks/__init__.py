"Commands that print ratios of medians, taken in turn in one run, against something outside this project"
import resource, threading, time, torch, pandas as pd
from pathlib import Path
from statistics import median

clock = time.perf_counter
def count_cpu(yes): global clock; clock = time.process_time if yes else time.perf_counter

def seconds(f):
    t = clock(); f()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return clock()-t

def in_turn(fs:dict, runs=5, per=None):
    "Median seconds of each function / its `per`, after one run to warm up; in turn, so that what else the machine does hits all alike"
    for f in fs.values(): f()
    ts = {k:[] for k in fs}
    for _ in range(runs):
        for k,f in fs.items(): ts[k].append(seconds(f))
    return {k:median(t)/n for (k,t),n in zip(ts.items(), per or [1]*len(fs), strict=True)}

def fmt(s): return f'{s:.3g} s' if s>=1 else f'{1e3*s:.3g} ms' if s>=1e-3 else f'{1e6*s:.3g} µs'

def report(rows, runs, csv=None):
    "Rows of (what, ours, stand-in, more…) in seconds: a table, and a CSV if wanted"
    df = pd.DataFrame(rows)
    df.insert(3, 'ratio', df['stand-in']/df['ours'])
    if csv: df.assign(threads=torch.get_num_threads(), runs=runs).to_csv(csv, index=False)
    show = df.assign(**{c:df[c].map(lambda o: fmt(o) if o==o else '') for c in ('ours','stand-in')}, ratio=df.ratio.map(lambda o: f'{o:.1f}×' if o==o else ''))
    print(show.fillna('').to_string(index=False))
    print(f"medians of {runs} runs in turn, {'processor' if clock is time.process_time else 'wall'} time; {torch.get_num_threads()} thread(s)")

class Grown:
    "How much more memory than at its beginning a process holds at most in a `with` block, in `.mb`"
    def held(self): return int(Path('/proc/self/statm').read_text().split()[1])*4096/2**20
    def watch(self):
        while not self.done.wait(.02): self.mb = max(self.mb, self.held()-self.base)
    def __enter__(self):
        self.mb,self.base,self.done = 0.,self.held(),threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self
    def __exit__(self, *args):
        self.done.set()
        self.thread.join()

def peak_mb():
    "Most memory this process ever held, MB (on Linux from /proc: `ru_maxrss` survives an exec)"
    st = Path('/proc/self/status')
    if st.exists(): return int(st.read_text().split('VmHWM:')[1].split()[0])/1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
