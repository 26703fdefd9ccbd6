"""Linear probes of a saved encoder, of the same encoder untrained, and of mean + std of log-mels, side by side.

    python -m benchmarks.probe --data PATH --encoder FOLDER [--split test] [--layers top --pool max+mean]

PATH, probes and `--heard` as for benchmarks.ablate; the split named is only reported on.
"""
import warnings
from fastcore.script import call_parse, bool_arg, CliError
from fastai.basics import *
from slicer_fastai.all import *
from benchmarks.ablate import probe, tasks

def mel_stats(files, front):
    "Mean and standard deviation of each mel band of whole files (n, 2·n_mels); no level, no network"
    wave = lambda f: (lambda x: pad_to(x, max(len(x), 1024)))(read_window(f, None, front.sr))
    spec = lambda f: front.mel(torch.from_numpy(wave(f))[None])[0]
    return np.stack([torch.cat([s.mean(-1), s.std(-1)]).numpy() for s in map(spec, files)])

@call_parse
def main(
    data:Path=None,      # folder with tasks/
    encoder:Path=None,   # folder of a saved encoder
    split:str='test',    # report on this split
    heard:str='',        # groups, with spaces between, whose validation clips are left out
    seeds:int=2,         # untrained encoders
    layers:str=None,     # read at these layers; default: where the saved one is read
    pool:str=None,       # pooled so; default: as the saved one
    baseline:bool_arg=True, # mean + std of log-mels as well
):
    "Trained, untrained, mean + std of log-mels"
    warnings.filterwarnings('ignore')
    if data is None or encoder is None: raise CliError('give --data and --encoder')
    ts,enc,rows = tasks(Path(data), heard.split()),AudioEncoder.from_pretrained(encoder),{}
    dev = default_device(); score = lambda e: probe(partial(embed, e.to(dev), progress=False), ts, split)
    def same():
        res = AudioEncoder(enc.arch, front=enc.front, layers=ifnone(layers, enc.layers), pool=ifnone(pool, enc.pool),
                           changes=enc.changes if layers is None else {}, **enc.kwargs)
        res.norm.load_state_dict(enc.norm.state_dict())
        return res
    trained = same(); trained.load_state_dict(enc.state_dict())
    rows['trained'] = score(trained)
    for s in range(seeds): set_seed(s); rows[f'untrained, seed {s}'] = score(same())
    if baseline: rows['mean + std of log-mels'] = probe(partial(mel_stats, front=enc.front), ts, split)
    print(pd.DataFrame(rows).T.round(2).to_string())
