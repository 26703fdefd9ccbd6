"""Linear probes of a saved encoder, of the same encoder untrained, and of mean + std of log-mels, side by side.

    python -m benchmarks.probe --data PATH --encoder FOLDER [--split test]

PATH as for benchmarks.ablate. Regularisation is chosen on the validation clips; the split named is only reported on.
"""
import warnings
from fastcore.script import call_parse, CliError
from fastai.basics import *
from slicer_fastai.all import *
from benchmarks.ablate import tasks

def mel_stats(files, audio):
    "Mean and standard deviation of each mel band of whole files (n, 2·n_mels); no level, no network"
    mel = LogMel(**{k:v for k,v in audio.items() if k not in ('duration','pad','level')})
    wave = lambda f: (lambda x: pad_to(x, max(len(x), 1024)))(read_window(f, None, audio['sr']))
    spec = lambda f: mel(torch.from_numpy(wave(f))[None])[0]
    return np.stack([torch.cat([s.mean(-1), s.std(-1)]).numpy() for s in map(spec, files)])

def scores(ts, features, split):
    "Accuracy in % on each task, from a function files → (n, d)"
    res = {}
    for t,s in ts.items():
        e = {n:(features(s[n][0]),s[n][1]) for n in {'train','valid',split}}
        res[t] = 100*linear_probe(None, e['train'], e[split], valid=e['valid'])
    return {**res, 'average':np.mean(list(res.values()))}

@call_parse
def main(
    data:Path=None,      # folder with tasks/
    encoder:Path=None,   # folder of a saved encoder
    split:str='test',    # report on this split
    seeds:int=2,         # untrained encoders
):
    "Trained, untrained, mean + std of log-mels"
    warnings.filterwarnings('ignore')
    if data is None or encoder is None: raise CliError('give --data and --encoder')
    ts,enc,rows = tasks(Path(data)),AudioEncoder.from_pretrained(encoder),{}
    dev = default_device(); emb = lambda e: lambda fs: embed(e.to(dev), fs, progress=False)
    rows['trained'] = scores(ts, emb(enc), split)
    for s in range(seeds):
        set_seed(s)
        raw = AudioEncoder(enc.arch, n_mels=enc.n_mels, n_frames=enc.n_frames, pool=enc.pool, **enc.kwargs)
        raw.norm.load_state_dict(enc.norm.state_dict()); raw.audio = enc.audio
        rows[f'untrained, seed {s}'] = scores(ts, emb(raw), split)
    rows['mean + std of log-mels'] = scores(ts, partial(mel_stats, audio=enc.audio), split)
    print(pd.DataFrame(rows).T.round(1).to_string())
