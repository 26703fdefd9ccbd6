"""From files to two views: ours against what users do today, clip by clip.

    python -m benchmarks.data [--data PATH] [--runs 5] [--csv out.csv]

Ours: windows read by `read_window` or cut out of a pack, then log-mels and views as batches. The stand-in: librosa loads the whole file and makes the
mel spectrogram; mixup, crop and k-mix follow clip by clip, k-mix as two nested Python loops, over bank and centroids, once a view.
Without --data, clips of 10 s are made: 16 kHz mono as wav, flac, ogg and mp3, 44.1 kHz stereo as wav.

The last column compares with a measured reference implementation. It took, elsewhere, on one thread: 6.2 ms a clip without k-mix, 129 ms with it, 149 ms for
44.1 kHz stereo, 64 ms for k-mix alone. Those times are scaled to this machine by (stand-in here without k-mix) / 6.2 ms, the same amount of work: librosa on the same file.
"""
import random, tempfile, time, warnings
import librosa, soundfile as sf, torch.nn.functional as F
from fastcore.script import call_parse
from threadpoolctl import threadpool_limits
from fastai.basics import *
from slicer_fastai.all import *
from slicer_fastai.core.memory import set_allocator
from benchmarks import *

def make_clips(path, n, sr, ch, ext, secs=10):
    "Noisy recordings of `secs` seconds"
    path.mkdir(parents=True)
    for i in range(n):
        x = np.random.default_rng(i).normal(size=(sr*secs, ch)).cumsum(0)
        sf.write(path/f'{i:03d}.{ext}', .5*x/abs(x).max(), sr)
    return get_audio_files(path)

class UserViews:
    "The stand-in: one clip at a time"
    def __init__(self, bank_size=2048, kmix=True):
        self.bank,self.kmix = [],kmix
        rng = np.random.default_rng(0)
        self.bank = [rng.normal(-6, 2, (64,96)).astype(np.float32) for _ in range(bank_size)]
        self.centroids = rng.normal(size=(4,64)).astype(np.float32)
        self.centroids /= np.linalg.norm(self.centroids, axis=1, keepdims=True)

    def load(self, fn):
        x,_ = librosa.load(fn, sr=16000)
        i = random.randint(0, max(0, len(x)-15200))
        x = np.pad(x, (0, max(0, 15200-len(x))))[i:i+15200]
        m = librosa.feature.melspectrogram(y=x, sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60, fmax=7800)
        return np.log(m+1.19e-7)

    def mix(self, x, z):
        a = .4*random.random()
        return np.log((1-a)*np.exp(x)+a*np.exp(z)+1e-12)

    def crop(self, x):
        x = torch.from_numpy(x)[None,None]
        c = torch.zeros(1,1,64,144); c[...,24:120] = x
        h,w = min(64, int(random.uniform(.6,1.5)*64)),min(144, int(random.uniform(.6,1.5)*96))
        i,j = random.randint(0, 64-h),random.randint(0, 144-w)
        return F.interpolate(c[:,:,i:i+h,j:j+w], (64,96), mode='bicubic', align_corners=True)[0,0].numpy()

    def cluster(self, x):
        f = x.mean(1); f = f/(np.linalg.norm(f)+1e-9)
        best,near = None,-2
        for i,c in enumerate(self.centroids):
            s = np.dot(f, c)
            if s>near: best,near = i,s
        return best

    def partner(self, x):
        "k-mix: a member of the farthest cluster in the bank"
        own = self.cluster(x)
        members = {i:[] for i in range(len(self.centroids))}
        for z in self.bank: members[self.cluster(z)].append(z)
        order = sorted(members, key=lambda i: np.dot(self.centroids[i], self.centroids[own]))
        order.remove(own)
        for i in [*order, own]:
            if members[i]: return random.choice(members[i][:128])

    def view(self, x):
        v = self.crop(self.mix(x, random.choice(self.bank)))
        return self.mix(v, self.partner(v)) if self.kmix else v

    def __call__(self, fn):
        x = self.load(fn)
        return self.view(x),self.view(x)

def our_views(kmix=True):
    norm = NormalizeSpec(-6., 2.)
    v = slicer_views(norm, 'mixup crop kmix' if kmix else 'mixup crop')
    x = torch.randn(2048,1,64,96)*2-6
    if kmix: v.kmix.fit(x)
    v.push(x)
    return v

def path_row(what, files, kmix, ref, runs, bs, few):
    "Files → two views: ours for `bs` files, the stand-in for the first `few`"
    dls = SlicerDataLoaders.from_lists('.', [*files]*3, bs=bs, num_workers=0, windows=1, device='cpu', valid_pct=.1)
    mine,user = our_views(kmix),UserViews(kmix=kmix)
    def ours():
        b = first(dls.train)[0]
        mine(b); mine.push(b)
    dls.train.n = bs                                                # one batch a pass
    t = in_turn({'ours':ours, 'stand-in':lambda: [user(f) for f in files[:few]]}, runs, (bs,few))
    return {'what':what, 'ours':t['ours'], 'stand-in':t['stand-in'], 'ref':ref}

def packed_row(what, files, tmp, kmix, runs, bs, few):
    pack = pack_audio(files[0].parent, tmp/f'{files[0].parent.name}-pack', n_workers=1)
    dls = SlicerDataLoaders.from_pack(pack, bs=min(bs, int(.8*len(pack))), num_workers=0, windows=1, device='cpu')
    bs,mine,user = dls.bs,our_views(kmix),UserViews(kmix=kmix)
    dls.train.n = bs
    def ours():
        b = first(dls.train)[0]
        mine(b); mine.push(b)
    t = in_turn({'ours':ours, 'stand-in':lambda: [user(f) for f in files[:few]]}, runs, (bs,few))
    return {'what':what, **t, 'ref':129 if kmix else 6.2}, pack

def kmix_row(runs, bs, few):
    mine,user = our_views().kmix,UserViews()
    x,one = torch.randn(2*bs,1,64,96)*2-6,user.bank[7]                # both views of a batch, as `Views` calls it
    with torch.no_grad(): t = in_turn({'ours':lambda: [mine(x) for _ in range(5)], 'stand-in':lambda: [user.mix(one, user.partner(one)) for _ in range(few)]}, runs, (10*bs,few))
    return {'what':'k-mix alone, bank 2048', **t, 'ref':64}

def read_rows(clips, pack, runs):
    rows = []
    for k,fs in clips.items():
        fs = fs[:16]
        t = in_turn({'ours':lambda: [read_window(f, pos=random.random()) for f in fs], 'stand-in':lambda: [librosa.load(f, sr=16000) for f in fs]}, runs, (len(fs),len(fs)))
        rows.append({'what':f'read a window, {k}', **t})
    i = np.arange(len(pack))
    t = in_turn({'ours':lambda: pack.windows(i, 15200, np.random.rand(len(i))), 'stand-in':lambda: [librosa.load(f, sr=16000) for f in clips['wav 16 kHz'][:16]]}, runs, (len(i),16))
    rows.append({'what':'read a window, packed', **t})
    return rows

def worker_rows(files, pack, bs, n=4000):
    "Clips a second to log-mels on the device, for an epoch of about `n` clips, the start of the workers not counted"
    many = [*files]*(n//len(files)+1)
    for w in (0,1,2):
        res = []
        for dls in (SlicerDataLoaders.from_lists('.', many, bs=bs, num_workers=w, device='cpu', valid_idx=[0]),
                    SlicerDataLoaders.from_pack(pack, bs=bs, num_workers=w, device='cpu', valid_idx=[0])):
            if dls.train.n<n//2: ds = dls.train_ds; ds.idxs = np.resize(ds.idxs, n); dls.train.n = n
            it = iter(dls.train); next(it); t = time.perf_counter()
            res.append(sum(len(b[0]) for b in it)/(time.perf_counter()-t))
        print(f'  {w} workers: windows {res[0]:7.0f} clips/s   packed {res[1]:7.0f} clips/s')

@call_parse
def main(
    data:Path=None,    # a folder of audio files; default: clips are made
    runs:int=5,        # runs, of which the median counts
    bs:int=64,         # batch size of ours
    few:int=2,         # clips a run of the stand-in takes
    threads:int=1,     # of torch
    csv:Path=None,     # write the table there too
    cpu:bool=False,    # count processor time, for a machine that does other things too
):
    "Files → two views"
    warnings.filterwarnings('ignore'); torch.set_num_threads(threads); threadpool_limits(threads); count_cpu(cpu)
    set_allocator(True)                                                     # as while training
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        kinds = {'wav 16 kHz':(16000,1,'wav'), 'flac 16 kHz':(16000,1,'flac'), 'ogg 16 kHz':(16000,1,'ogg'), 'mp3 16 kHz':(16000,1,'mp3'), 'wav 44.1 kHz stereo':(44100,2,'wav')}
        clips = {k:make_clips(tmp/k.replace(' ','_'), 80 if k=='wav 16 kHz' else 16 if k!='wav 44.1 kHz stereo' else 64, *v) for k,v in kinds.items()}
        if data: clips['wav 16 kHz'] = get_audio_files(data).shuffle()[:80]
        wav,cd = clips['wav 16 kHz'],clips['wav 44.1 kHz stereo']
        rows = [path_row('file → two views, k-mix', wav, True, 129, runs, bs, few), path_row('file → two views, no k-mix', wav, False, 6.2, runs, bs, 16*few),
                path_row('44.1 kHz stereo → two views, k-mix', cd, True, 149, runs, bs, few)]
        src = tmp/'src'
        if data:
            src.mkdir()
            for i,f in enumerate(wav): (src/f'{i}{f.suffix}').symlink_to(f.resolve())
        row,pack = packed_row('packed → two views, k-mix', get_audio_files(src) if data else wav, tmp, True, runs, bs, few)
        rows += [row, packed_row('packed → two views, no k-mix', get_audio_files(src) if data else wav, tmp, False, runs, bs, 16*few)[0], kmix_row(runs, bs, few), *read_rows(clips, pack, runs)]
        scale = rows[1]['stand-in']/6.2e-3
        for r in rows:
            ref = r.pop('ref', None)
            r['against the scaled reference'] = f"{1e-3*ref*scale/r['ours']:.0f}×" if ref else ''
        report(rows, runs, csv)
        print(f'reference scaled by {scale:.2f} (stand-in without k-mix here / 6.2 ms)')
        print('Whole epochs to log-mels:')
        worker_rows(wav, pack, bs)
