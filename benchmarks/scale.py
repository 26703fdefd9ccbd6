"""Millions of entries: index, first batch, memory; a tree of files; packing.

    python -m benchmarks.scale [--n 2000000] [--tree 100000] [--csv out.csv] [--only 'from_parquet from_shards'] [--epochs 10]

Each measurement runs in a fresh process; memory is what it adds to the peak after the imports, the list of files counted in (of `from_text` and `from_parquet`, whose
lists another process writes, what is read). The `n` paths are distinct and lead to 200 real files, through links from a folder to itself; the pack of `n` clips of 10 s
is a sparse file; the `n`/1000 tar shards of 1000 clips of 0.3 s are links to four. `epochs` is how many are begun, each with its order of all `n` clips, and left after
20 batches of 64: growth is what memory in use (pages of the pack, mapped, left out) gains from the first one's end to the last one's. The stand-in is a plain
PyTorch data set over the same list.
"""
import json, multiprocessing as mp, os, random, tempfile, time, warnings
import soundfile as sf
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.data.shards import shard_folder
from benchmarks import *

def make_tree(tmp):
    "200 files, and links d0 … d99 from their folder to itself"
    tmp.mkdir()
    for i in range(200): sf.write(tmp/f'{i:03d}.wav', np.random.default_rng(i).normal(size=16000)*.1, 16000)
    for i in range(100): (tmp/f'd{i:02d}').symlink_to('.')

def paths(tmp, n): return [f'{tmp}/d{i//20000%100:02d}/d{i//200%100:02d}/{i%200:03d}.wav' for i in range(n)]

def from_lists(tmp, n):
    fs = paths(tmp/'wavs', n)
    return lambda: SlicerDataLoaders.from_lists(tmp, fs, bs=64, num_workers=0, device='cpu')

def from_lists_labels(tmp, n):
    fs = paths(tmp/'wavs', n)
    return lambda: SlicerDataLoaders.from_lists(tmp, fs, labels=[f[-5] for f in fs], bs=64, num_workers=0, device='cpu')

def _names(tmp, n, fn, write):
    "A list of names in a file, written by another process: its memory isn't counted"
    p = mp.get_context('spawn').Process(target=write, args=(tmp, n, fn)); p.start(); p.join()
    return lambda: SlicerDataLoaders.from_df(fn, bs=64, num_workers=0, device='cpu')

def _write_text(tmp, n, fn): fn.write_text('\n'.join(paths(tmp/'wavs', n)))
def _write_parquet(tmp, n, fn): pd.DataFrame(dict(file=paths(tmp/'wavs', n))).to_parquet(fn)
def from_text(tmp, n): return _names(tmp, n, tmp/'names.txt', _write_text)
def from_parquet(tmp, n): return _names(tmp, n, tmp/'names.parquet', _write_parquet)

def make_shards(tmp, n, k=1000):
    "Four shards of clips of noise, links to them, and their index"
    if (tmp/'shards').exists(): return
    (tmp/'short').mkdir(); (tmp/'shards').mkdir()
    for i in range(4*k): sf.write(tmp/f'short/{i:04d}.wav', np.random.default_rng(i).normal(size=4800)*.1, 16000)
    four = [o['file'] for o in json.loads(shard_folder(tmp/'short', tmp/'four', clips=k).read_text())['shards']]
    names = [f'shard-{i:05d}.tar' for i in range(n//k)]
    for i,o in enumerate(names): (tmp/'shards'/o).symlink_to(tmp/'four'/four[i%4])
    (tmp/'shards/shards.json').write_text(json.dumps(dict(vocab=None, shards=[dict(file=o, clips=k) for o in names])))

def from_shards(tmp, n): return lambda: SlicerDataLoaders.from_webdataset(tmp/'shards', bs=64, num_workers=0, device='cpu')

def from_pack(tmp, n): return lambda: SlicerDataLoaders.from_pack(tmp/'pack', bs=64, num_workers=0, device='cpu')

def plain(tmp, n):
    "A PyTorch data set over the list, and a random split"
    fs = paths(tmp/'wavs', n)
    class Ds(torch.utils.data.Dataset):
        def __len__(self): return len(fs)
        def __getitem__(self, i): return torch.from_numpy(pad_to(read_window(fs[i], pos=random.random()), 15200))
    def f():
        ds = Ds()
        tr,va = torch.utils.data.random_split(ds, [len(ds)-len(ds)//10, len(ds)//10])
        class Dls: train = torch.utils.data.DataLoader(tr, 64, shuffle=True)
        return Dls
    return f

def in_use():
    "Memory this process holds, MB; without pages of mapped files, which the system takes back when it needs them"
    _,resident,shared,*_ = map(int, Path('/proc/self/statm').read_text().split())
    return (resident-shared)*os.sysconf('SC_PAGESIZE')/2**20

def grown(dl, epochs, steps=20):
    "MB gained from the end of the first epoch's steps to the last one's"
    held = []
    for _ in range(epochs):
        for _ in itertools.islice(dl, steps): pass
        held.append(in_use())
    return max(held)-held[0] if held else 0.

def _measure(name, tmp, n, epochs, q):
    warnings.filterwarnings('ignore'); torch.set_num_threads(1)
    SlicerDataLoaders.from_lists('.', paths(tmp/'wavs', 100), bs=4, num_workers=0, device='cpu').one_batch()        # what is loaded on first use
    before,make = peak_mb(),globals()[name](tmp, n)
    t0 = time.perf_counter(); dls = make()
    t1 = time.perf_counter(); b = next(iter(dls.train))
    t2 = time.perf_counter()
    m = peak_mb()-before
    q.put((t1-t0, t2-t1, m, len(b[0]), grown(dls.train, epochs)))

def measure(*args):
    q = mp.get_context('spawn').Queue()
    p = mp.get_context('spawn').Process(target=_measure, args=(*args, q)); p.start()
    r = q.get(); p.join()
    return r

def make_pack(path, n, secs=10, sr=16000):
    "A pack of `n` clips whose one shard is a sparse file"
    path.mkdir()
    names = [f'speaker{i%1000:04d}/recording_{i:08d}.wav'.encode() for i in range(n)]
    meta = dict(sr=sr, sig='0', format=2, shards=['audio-0-000.i16'], vocab=None, skipped=[])
    np.savez(path/'index.npz', meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), names=np.frombuffer(b''.join(names), np.uint8),
             ends=np.cumsum([len(o) for o in names], dtype='<i8'), lengths=np.full(n, secs*sr, '<i8'), crcs=np.zeros(n, '<u4'), clips=np.array([n]))
    with open(path/meta['shards'][0], 'wb') as f: f.truncate(2*n*secs*sr)

@call_parse
def main(
    n:int=2_000_000,    # entries
    tree:int=50_000,    # files in the tree that is searched and verified
    runs:int=5,         # runs, of which the median counts
    csv:Path=None,      # write the table there too
    only:str='from_lists from_lists_labels from_text from_parquet from_pack from_shards plain', # what is measured
    epochs:int=0,       # begun, for the growth of memory
):
    "Index, first batch, memory"
    warnings.filterwarnings('ignore')
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        make_tree(tmp/'wavs'); make_pack(tmp/'pack', n); make_shards(tmp, n)
        rows = []
        for name in only.split():
            a,b,m,_,g = [median(o) for o in zip(*[measure(name, tmp, n, epochs) for _ in range(runs)])]
            rows.append(dict(what=name, entries=n, index=f'{a:.1f} s', **{'first batch':f'{b:.1f} s', 'memory':f'{m:.0f} MB', 'growth':f'{g:.0f} MB'}))
            print(rows[-1], flush=True)
            df = pd.DataFrame(rows)
            if csv: df.to_csv(csv, index=False)
        print(df.to_string(index=False))
        if not tree: return
        for i in range(tree):
            if i%1000==0: d = tmp/f'tree/{i//1000:03d}'; d.mkdir(parents=True)
            os.link(tmp/f'wavs/{i%200:03d}.wav', d/f'{i%1000:03d}.wav')
        t = [seconds(lambda: get_audio_files(tmp/'tree')) for _ in range(runs)]
        print(f'get_audio_files, {tree} files: {median(t):.2f} s ({1e6*median(t)/tree:.0f} µs each)')
        t = seconds(lambda: verify_audio(get_audio_files(tmp/'tree')[:tree//5]))
        print(f'verify_audio, {tree//5} files: {t:.2f} s ({1e6*t/(tree//5):.0f} µs each)')
