"What is wrong with data or arguments is said clearly, or does no harm"
from conftest import *
import scipy.signal, soundfile as sf

def fit(d, n=1, bs=4, learner={}, **kwargs):
    dls = SlicerDataLoaders.from_folder(d, bs=bs, device='cpu', **{'num_workers':0, 'valid_pct':.2, **kwargs})
    learn = SlicerLearner(dls, arch_kwargs=encoder_kw, **{**model_kw, **learner})
    quiet(learn, learn.fit, n, 1e-3)
    assert len(learn.recorder.losses), 'nothing was trained'
    assert losses(learn).isfinite().all(), 'a loss is no number'
    assert all(np.isfinite(v) for v in learn.recorder.values[-1])
    assert all(v.isfinite().all() for v in state(learn.model).values() if v.is_floating_point())
    return learn

def spoil(f): f.write_bytes(b'RIFF....WAVEnot a sound'); return f

def clips(d, i=0): return SlicerDataLoaders.from_folder(d, bs=4, num_workers=0, device='cpu', valid_pct=.2).loaders[i].items

# --- files ---

def test_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no file at all'): fit(tmp_path)

def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'): fit(tmp_path/'nowhere')

def test_folder_without_audio(tmp_path):
    for n in ('a.txt','b.txt','c.doc'): (tmp_path/n).write_text('x')
    with pytest.raises(FileNotFoundError, match='2 .txt, 1 .doc') as e: fit(tmp_path)
    assert str(tmp_path) in str(e.value)

@pytest.mark.parametrize('num_workers', [0,2])
@pytest.mark.parametrize('place', [5,-1])
def test_one_corrupt_file(folder, told, place, num_workers):
    "Training goes on, without that clip"
    d = folder(); f = spoil(clips(d)[place])
    learn = fit(d, n=2, num_workers=num_workers)
    n = len(losses(learn))
    assert 2<=n<=4 if num_workers else n==4                                 # 9 clips: two batches of 4, twice; a worker drops the rest of its own
    assert told(f'skipped: {f}')

@pytest.mark.parametrize('num_workers', [0,2])
def test_one_warning_a_corrupt_file(folder, told, num_workers):
    "… however many epochs, workers and passes over the data"
    d = folder(); f = spoil(clips(d)[5])
    fit(d, n=3, num_workers=num_workers)
    assert len(told(str(f)))==1, told(str(f))

def test_corrupt_file_in_the_validation_set(folder, told):
    d = folder(); f = spoil(clips(d, 1)[0])
    fit(d)
    assert told(str(f))

def test_corrupt_file_comes_first(folder):
    "The first clip of the training set is the one fastai tries transforms on"
    d = folder(); spoil(clips(d)[0])
    assert len(losses(fit(d)))==2

def test_corrupt_file_comes_first_with_labels(folder):
    d = folder(); spoil(clips(d)[0])
    learn = fit(d, label_func=lambda f: f.stem[0])
    assert len(losses(learn))==2 and list(learn.dls.vocab)==['0','1']

def test_all_files_corrupt(folder):
    d = folder(6)
    for f in d.iterdir(): spoil(f)
    with pytest.raises(Exception) as e: fit(d)
    assert 'could be read' in str(e.value) or 'wav' in str(e.value), f'says only {e.value!r}'

def test_one_corrupt_file_must_not_empty_the_only_batch(folder):
    "One batch an epoch, one clip of it unreadable: fastai drops the incomplete batch, and nothing at all would be trained"
    d = folder(); spoil(clips(d)[5])
    with pytest.raises(ValueError, match='no batch in this epoch.*bs=10'): fit(d, bs=64)

def test_verify_names_it(folder):
    d = folder(3); f = spoil(d/'01.wav')
    v = verify_audio(d)
    assert v.file.tolist()==[str(f)] and v.reason[0] and v.remedy[0]

def test_embed_names_the_corrupt_file(folder):
    d = folder(); learn = fit(d); f = spoil(d/'03.wav')
    with pytest.raises(AudioReadError, match='03.wav'): learn.embed(get_audio_files(d), n_workers=1)

@pytest.mark.parametrize('dur', [.94, .2, .03, 1/16000])
def test_clips_shorter_than_the_window(folder, dur):
    d = folder(dur=dur)
    learn = fit(d)
    e = learn.embed(get_audio_files(d), n_workers=1)
    assert e.shape==(12,learn.encoder.num_features) and np.isfinite(e).all()
    fit(d, pad='repeat')

def test_short_and_long_clips_together(folder):
    d = folder(6, .3)
    for f in list(d.iterdir()): f.rename(f.with_stem('s'+f.stem))
    d = folder(6, 2.)
    learn = fit(d)
    e = learn.embed(get_audio_files(d), n_workers=1)
    assert e.shape==(12,learn.encoder.num_features) and np.isfinite(e).all()

def test_digital_silence(folder):
    d = folder(gain=0.)
    learn = fit(d)
    assert learn.encoder.norm.std>0
    assert np.isfinite(learn.embed(get_audio_files(d), n_workers=1)).all()

def test_some_silent_files(folder):
    d = folder()
    for i in (1,4,7): sf.write(d/f'{i:02d}.wav', np.zeros(19200), 16000)
    silent = [f.stem in ('01','04','07') for f in get_audio_files(d)]
    for level in (None,'rms','peak'):
        e = fit(d, level=level).embed(get_audio_files(d), n_workers=1)
        assert np.isfinite(e).all() and np.ptp(e[silent], axis=0).max()<1e-5<np.ptp(e, axis=0).max()

def test_stereo_441(folder, tmp_path):
    "Stereo at 44.1 kHz gives the log-mels of the same sound, mono, resampled"
    d = folder(6, 1.5, 44100, 2)
    learn = fit(d)
    f = get_audio_files(d)[0]
    x,_ = sf.read(f)
    y = scipy.signal.resample_poly(x.mean(1), 160, 441)[:16000]
    z = read_window(f, 1., start=0.)
    assert np.abs(y-z)[200:-200].max()<5e-3*np.abs(y).max()
    a,b = [LogMel()(torch.from_numpy(o.astype(np.float32))[None])[0,:60].as_subclass(Tensor)[:,4:-4] for o in (y,z)]
    assert (a-b).abs().max()<.05
    assert learn.dls.one_batch()[0].shape[1:]==(2,64,96)

def test_mixed_formats(folder):
    d = folder()
    for i,(sr,ch,ext) in enumerate([(8000,1,'wav'),(48000,2,'flac'),(22050,1,'ogg'),(44100,6,'wav'),(11025,2,'aiff')]):
        x = np.random.default_rng(i).normal(size=(sr,ch))*.1
        sf.write(d/f'x{i}.{ext}', x, sr)
    learn = fit(d)
    e = learn.embed(get_audio_files(d), n_workers=1)
    assert e.shape==(17,learn.encoder.num_features) and np.isfinite(e).all() and not len(verify_audio(d))

def test_nan_in_a_file(folder, told):
    d = folder(); f = clips(d)[5]
    sf.write(f, np.full(19200, np.nan, np.float32), 16000, subtype='FLOAT')
    fit(d)
    assert 'NaN' in told(str(f))[0]

# --- sizes ---

def test_batch_larger_than_the_data_set(folder):
    with pytest.warns(UserWarning, match='64.*10 training clips'): learn = fit(folder(), bs=64)
    assert learn.dls.bs==10 and len(losses(learn))==1

def test_batch_of_one(folder):
    learn = fit(folder(), bs=1)
    assert len(losses(learn))==10

@pytest.mark.parametrize('n', [1,2,3,4,5,6])
def test_few_files(folder, n):
    "They train, or the error says how many are needed and of what"
    d = folder(n)
    try: fit(d, bs=2)
    except ValueError as e:
        assert n<6, e
        assert 'is needed' in str(e) or 'kmix_clusters' in str(e), f'{n} files: {e}'

def test_few_files_without_kmix(folder):
    learn = fit(folder(3), bs=2, learner=dict(tfms='mixup crop'))
    assert len(losses(learn))==1

# --- arguments ---

@pytest.mark.parametrize('arch,near', [('resnet81','resnet18'), ('convnxt_atto','convnext_atto'), ('audiont','audiontt'), ('AudioNTT','audiontt')])
def test_unknown_arch(loaders, arch, near):
    with pytest.raises(ValueError, match=near) as e: SlicerLearner(loaders(), arch)
    assert arch in str(e.value)

def test_arch_unlike_anything(loaders):
    with pytest.raises(ValueError, match='qqqqqqqq.*list_models'): SlicerLearner(loaders(), 'qqqqqqqq')

@pytest.mark.parametrize('kw', [dict(tfms='crop flip'), dict(mix_domain='linear'), dict(cluster_target='both'), dict(teacher_bn='none'), dict(arch_kwargs=dict(pool='sum'))])
def test_wrong_choice_is_named(loaders, kw):
    name,value = next(iter(kw.items()))
    if isinstance(value, dict): name,value = next(iter(value.items()))
    with pytest.raises(ValueError, match=f"^{name}[=:]") as e: SlicerLearner(loaders(), **{**model_kw, **kw})
    assert value.split()[-1] in str(e.value)

@pytest.mark.parametrize('name,value', [('ratio',1.5),('ratio',-.1),('temp',0.),('temp_c',0.),('momentum',1.5),('momentum',-.1),('queue_size',0),
    ('bank_size',0),('kmix_clusters',0),('top_k',0),('n_clusters',0)])
def test_number_out_of_range_is_named(loaders, name, value):
    "An error with the argument's name when the learner is made: no NaN, no training without effect, no riddle three calls deeper"
    dls = loaders()
    with pytest.raises(ValueError, match=name): SlicerLearner(dls, arch_kwargs=encoder_kw, **{**model_kw, name:value})

@pytest.mark.parametrize('name,value', [('level','loud'),('pad','mirror'),('pad_mode','wrap'),('duration',0.),('duration',-1.),('f_min',9000.),('bs',0)])
def test_wrong_front_end_is_named(loaders, name, value):
    "… when the loaders are made, not in a worker"
    with pytest.raises(ValueError, match=name): loaders(**{name:value})

def test_f_max_above_nyquist(loaders):
    with pytest.raises(ValueError, match='f_max=7800.*8000'): loaders(sr=8000)

def test_window_too_short_for_reflection(loaders, tiny):
    with pytest.raises(ValueError, match='n_fft'): tiny(dls=loaders(duration=.03))
    dls = loaders(duration=.03, pad_mode='constant')
    assert dls.one_batch()[0].shape==(8,1,64,4)

def test_unknown_argument(loaders):
    with pytest.raises(TypeError, match='frob'): SlicerLearner(loaders(), frob=1)
    with pytest.raises(TypeError, match='frob'): loaders(frob=1)

def test_labels_that_do_not_fit(loaders, files):
    with pytest.raises(ValueError, match='label'): loaders(files[:9], labels=['a','b'])

def test_loaders_without_a_front_end():
    dls = DataLoaders.from_dsets(torch.randn(8,1,64,96), torch.randn(8,1,64,96), bs=4, device='cpu', num_workers=0)
    with pytest.raises(ValueError, match='AudioBlock'): SlicerLearner(dls)

def test_bank_of_another_shape():
    m = BankMix(bank_size=4); m.push(torch.zeros(2,1,64,96))
    with pytest.raises(ValueError, match='duration'): m.push(torch.zeros(2,1,64,50))

def test_embed_level_is_named(folder):
    enc = AudioEncoder('audiontt', **encoder_kw)
    with pytest.raises(ValueError, match='level='): embed(enc, [], level='word')
    with pytest.raises(AudioReadError, match='no such file'): embed(enc, ['a.wav'])

def test_embed_of_nothing(tiny):
    learn = tiny()
    try: e = learn.embed([])
    except ValueError as err: assert 'items' in str(err) or 'file' in str(err), f'riddle: {err}'
    else: assert e.shape==(0,32)

# --- tables and labels ---

@pytest.mark.parametrize('valid', [['train']*9+['valid']*3, [True]*3+[False]*3+[None]*6, [False]*12, [True]*12])
def test_a_split_that_is_none_is_refused(sounds, valid):
    df = pd.DataFrame(dict(file=get_audio_files(sounds)[:12].map(str), v=pd.Series(valid, dtype=object)))
    with pytest.raises(ValueError, match='true or false|at least one of each'): SlicerDataLoaders.from_df(df, '.', valid_col='v', num_workers=0, device='cpu')

@pytest.mark.parametrize('kw,match', [(dict(fn_col='fil'), "fn_col='fil'.*'file', 'kind'"), (dict(label_col='labl'), "label_col='labl'"), (dict(label_col='kind'), 'clip 3 has no label')])
def test_a_column_or_label_that_is_missing_is_named(sounds, kw, match):
    df = pd.DataFrame(dict(file=get_audio_files(sounds)[:8].map(str), kind=[*'abc',None,*'abca']))
    with pytest.raises(ValueError, match=match): SlicerDataLoaders.from_df(df, '.', num_workers=0, device='cpu', **kw)

def test_a_missing_file_name_is_named(sounds):
    with pytest.raises(ValueError, match='row 1 .*no file name'): SlicerDataLoaders.from_df(pd.DataFrame(dict(file=['a.wav',None,'b.wav'])), sounds, num_workers=0)

def test_a_class_of_validation_clips_only_is_named_before_training(sounds):
    with pytest.raises(ValueError, match="no clip to train on of 'rare'"):
        SlicerDataLoaders.from_lists(sounds, get_audio_files(sounds)[:8], [*'abababa','rare'], valid_idx=[0,1,7], num_workers=0, device='cpu')

def test_integer_samples():
    enc,x = AudioEncoder('audiontt', **encoder_kw),np.random.default_rng(0).normal(size=16000)*.1
    want = enc.embed(x, sr=16000)
    for y in ((x*32768).round().astype(np.int16), (x*2**31).round().astype(np.int32), (x*128+128).round().clip(0, 255).astype(np.uint8)):
        got = enc.embed(y, sr=16000)
        assert (got*want).sum()/np.linalg.norm(got)/np.linalg.norm(want)>.999, y.dtype
    for dt in (np.int64, np.uint16, bool):
        with pytest.raises(ValueError, match='int16, int32 or uint8'): enc.embed((x*30000).astype(dt), sr=16000)

def test_errors_of_files_escape_names(tmp_path, files):
    "Also where an error lists others, and in what a file of settings says"
    import shutil
    from slicer_fastai.data.read import BadFiles
    bad = BadFiles(3)
    bad.add(AudioReadError(tmp_path/'a\x1b[2J.wav', 'torn'))
    assert list(bad)==[str(tmp_path/r'a\x1b[2J.wav')+': torn']
    for e in (AudioReadError('x', 'is like y\x1b[2J'), DamagedFile('x\x1b[2J', 'is like y\x1b[2J'), ConfigError(tmp_path/'\x1b[2J', 'k', 'v\x1b', 'is none')):
        assert '\x1b' not in str(e) and r'\x1b[2J' in str(e)
    with pytest.raises(FileNotFoundError) as e: AudioEncoder.from_pretrained(tmp_path/'no\x1b[2J')
    assert '\x1b' not in str(e.value)
