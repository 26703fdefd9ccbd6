"""An index of two weeks of sound at a half-second hop: disk, memory, seconds a question, and how many of the exact ten nearest it finds

    python -m benchmarks.big_index --data PATH            # sounds that the vectors are made from; 2.4 million rows
    python -m benchmarks.big_index --data PATH --n 200_000 --dims 512

Vectors are those of windows of real sounds at a half-second hop, each moved by a part of the difference of two others (--mix): as many as wanted, with the
spread of real ones. Questions are windows of other sounds. The exact answer compares all vectors in float32, standardised as the index does it. Searching is measured in a process of
its own. Embedding is measured on these windows and extrapolated to 336 hours. Needs 3 GB of disk for 2.4 million rows, which are deleted again.
"""
import json, shutil, subprocess, sys, tempfile, time
from fastcore.script import call_parse
from slicer_fastai.all import *
from slicer_fastai.use.big import Chunk, begin, fit_codec, write_part
from slicer_fastai.use.embed import unit_length

part = 16384

def status(key): return int(Path('/proc/self/status').read_text().split(f'{key}:')[1].split()[0])/1024

def real_vectors(enc, data, n):
    "Vectors of windows of sounds, and processor seconds for each"
    files = get_audio_files(data)
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:n//2]]
    start = time.process_time()
    vectors = np.concatenate(enc.embed(files, level='window', hop=.5, max_s=3., errors='skip', progress=False))
    seconds = (time.process_time()-start)/len(vectors)
    return vectors[np.random.default_rng(1).permutation(len(vectors))[:n]],seconds

class Mixtures:
    """As many vectors as wanted, real[i] + mix·(real[j]-real[k]), without making them: what is asked of them is linear in the real ones,
    up to their length, which follows from the products of the real ones"""
    def __init__(self, real, asked, codec, mix):
        z,q = [((o-codec.mean)/codec.spread).astype(np.float32) for o in (real, asked)]
        self.codec,self.mix,self.n = codec,np.float32(mix),len(real)
        self.gram,self.turned,self.products = z@z.T,z@codec.basis,z@unit_length(q).T

    def mixed(self, table, i, j, k): return table[i]+self.mix*(table[j]-table[k])
    def draw(self, rng, n):
        "Codes (n, dims), lengths (n,) and exact cosines with each question (n, questions)"
        i,j,k = rng.integers(self.n, size=(3,n))
        g,m = self.gram,self.mix
        square = g[i,i]+2*m*(g[i,j]-g[i,k])+m*m*(g[j,j]+g[k,k]-2*g[j,k])
        norms = np.sqrt(square.clip(1e-9))
        turned,exact = [self.mixed(o, i, j, k)/norms[:,None] for o in (self.turned, self.products)]
        codes = np.rint(turned/self.codec.scale).clip(-127, 127).astype(np.int8)
        return codes,norms.astype(np.float32),exact

def merge(best, scores, first):
    "The ten best so far of each question: (scores, rows)"
    top = np.argpartition(-scores, 10, axis=1)[:,:10]
    value = np.concatenate([best[0], np.take_along_axis(scores, top, 1)], 1)
    row = np.concatenate([best[1], top+first], 1)
    order = np.argsort(-value, 1)[:,:10]
    return np.take_along_axis(value, order, 1),np.take_along_axis(row, order, 1)

def build(path, enc, codec, mixtures, n):
    "Write an index of `n` rows; the exact answers (questions, 10)"
    begin(path, enc, .5, codec)
    best = np.full((mixtures.products.shape[1],0), 0.),np.zeros((mixtures.products.shape[1],0), int)
    for i,first in enumerate(range(0, n, part)):
        codes,norms,exact = mixtures.draw(np.random.default_rng([7, i]), min(part, n-first))
        write_part(path, i, [Chunk(f'hour_{i:04d}.wav', [0,0], 0, len(codes))], codes, np.arange(len(codes))*.5, norms)
        best = merge(best, exact.T, first)
    return best[1]

class MadeAgain:
    "What stands in for embedding windows of recordings again: the rows are made again from real vectors"
    def __init__(self, index, path):
        self.index,self.real = index,np.load(path/'real.npy')
        self.mix,self.n = np.load(path/'mix.npy')

    def __call__(self, vectors, rows):
        made = []
        for r in rows:
            i,j,k = np.random.default_rng([7, r//part]).integers(len(self.real), size=(3, int(min(part, self.n-r//part*part))))[:,r%part]
            made.append(self.real[i]+np.float32(self.mix)*(self.real[j]-self.real[k]))
        return (self.index.standardise(np.stack(made))@self.index.standardise(np.atleast_2d(vectors)).T).max(1)

def ask(path):
    "In a process of its own: seconds to open, seconds a question, MB above the import, answers"
    questions = np.load(path/'questions.npy')
    enc = AudioEncoder.from_pretrained('slicer-small')
    base,start = status('VmRSS'),time.time()
    index = SoundIndex.load(path)
    opened,answers,wall,cpu = time.time()-start,[],[],[]
    allowed = np.ones(len(index), bool)
    index.exact_scores = lambda vectors, rows: None                      # timed without it: embedding is measured apart
    for q in questions:
        w,c = time.time(),time.process_time()
        index.nearest(q, 10, False, allowed)
        wall.append(time.time()-w)
        cpu.append(time.process_time()-c)
    peak = status('VmHWM')
    index.exact_scores = MadeAgain(index, path)
    for q in questions:
        table = index.nearest(q, 10, False, allowed)
        hours = [int(f[5:9]) for f in table.file]
        answers.append((np.array(hours)*part+np.round(table.start*2)).astype(int).tolist())
    print(json.dumps(dict(open_s=opened, question_s=float(np.median(wall)), question_cpu_s=float(np.median(cpu)), rss_mb=peak-base, answers=answers)))

@call_parse
def main(
    data:str=None,           # a folder of sounds; default: synthesised ones
    n:int=2_419_200,         # rows: 336 hours at a half-second hop
    dims:int=1152,           # numbers of each row
    mix:float=.25,           # how far made vectors are from real ones
    real:int=4000,           # windows of real sounds
    questions:int=50,
    out:str='benchmarks/results/big_index.csv', # a row is appended
    search:str=None,         # for the process that searches: its folder
):
    "Build, search, compare, delete"
    warnings.simplefilter('ignore')
    if search: return ask(Path(search))
    enc = AudioEncoder.from_pretrained('slicer-small')
    vectors,seconds = real_vectors(enc, data or synth_sounds(), real+questions)
    vectors,asked = vectors[questions:],vectors[:questions]
    path = Path(tempfile.mkdtemp())
    try:
        start = time.process_time()
        codec = fit_codec(vectors, dims)
        fit = time.process_time()-start
        exact = build(path, enc, codec, Mixtures(vectors, asked, codec, mix), n)
        disk = sum(f.stat().st_size for f in path.rglob('*') if f.is_file())/1e9
        for name,array in dict(questions=asked, real=vectors, mix=[mix,n]).items(): np.save(path/f'{name}.npy', array)
        done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'benchmarks.big_index', '--search', str(path)], capture_output=True, text=True)
        if done.returncode: raise RuntimeError(done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
    finally: shutil.rmtree(path)
    for clock in ('question_s','question_cpu_s'): found[clock] += 60*seconds         # of embedding the 60 best again
    recall = np.mean([len(set(a) & set(b))/10 for a,b in zip(exact.tolist(), found.pop('answers'))])
    row = dict(rows=n, d=vectors.shape[1], dims=codec.dims, mix=mix, disk_gb=disk, recall_10=recall, fit_cpu_s=fit, **found,
               embed_cpu_h=seconds*n/3600)
    row = {k:round(v, 3) for k,v in row.items()}
    table = pd.DataFrame([row])
    table.to_csv(out, mode='a', header=not Path(out).exists(), index=False)
    print(table.T.to_string(header=False))
