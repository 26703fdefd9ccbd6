from fastai.basics import *
from fastai.data.all import *
from fastai.callback.all import *
from .audio.tensor import *
from .audio.formats import *
from .audio.clip import *
from .audio.spectrogram import AudioSpectrogram, LogMel, NormalizeSpec
from .core.files import whole, write_whole, checksum, DamagedFile
from .core.precision import *
from .core.doctor import *
from .core.processes import n_processes, process_index, is_first_process
from .audio.frontend import *
from .audio.synth import *
from .audio.real import *
from .audio.scenes import synth_recordings
from .audio.random_synth import random_sounds
from .augment.mix import log_mix, spherical_kmeans, KMix
from .augment.crop import RandomResizeCrop
from .augment.perturb import nats_per_db, RandomEQ, GainRamp, NoiseFloor, SpecMask, FreqWarp
from .augment.views import *
from .data.tables import read_table
from .data.annotated import BalancedDL
from .models.audiontt import audiontt_names, AudioNTT, audiontt, audiontt2022
from .models.encoder import AudioEncoder, ConfigError
from .models.foreign import as_encoder
from .models.losses import instance_loss, cluster_loss, assignment_entropy, local_loss
from .models.slicer import SlicerNet, SlicerOutput, SlicerLoss, SlicerModel
from .data.read import ReadAudio
from .data.segments import Places, segments
from .data.block import AudioSpecBlock, AudioBlock, SlicerDataLoaders, spec_grid, show_batch, players
from .data.pack import AudioPack, pack_audio, PackedDL
from .data.shards import ShardClips, ShardDL, shard_folder
from .data.random import RandomSounds, SynthDL
from .use.big import BigIndex
from .use.embed import embed, Sounds, similarity, project
from .use.evaluate import (
    ProbeResult, linear_probe, knn_probe, TagResult, draw_shots, FewShot, few_shot, read_task, log_mel_stats,
    Comparison, compare_encoders)
from .use.finetune import Augment, AudioLearner, audio_learner, Supervised, show_results
from .use.search import index_arrays, SoundIndex
from .field.annotations import Events, read_annotations
from .field.events import EventResult, evaluate_events, find_events
from .field.detect import Detector
from .field.quick import *
from .export.sklearn import *
from .export import onnx as _onnx
from .export.hub import *
from .use.tasks import tasks, MissingData, Task, Tasks
from .use.benchmark import *
from .train.callback import SLICER
from .train.learner import lape_preset, size_defaults, SlicerLearner, WatchClusters
from .train.resume import wrong_state, Resume
from .train import distributed as _distributed
from .train.probes import binomial_se, Probe, KNNProbe, LinearProbe
from .train.health import health_rules, spread, effective_rank, alignment, uniformity, Health, health_sentence
from .interpret.clips import *
from .interpret import views as _views
from .interpret.clusters import *
from .interpret.map import *
from .interpret.curves import *
from .interpret.report import *
from .interpret.compare import *
from .interpret.review import place_ids
from .interpret.timeline import plot_events
