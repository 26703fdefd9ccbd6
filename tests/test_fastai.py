"fastai's verbs on both learners: what they mean there they mean here"
from conftest import *
from fastai.interpret import ClassificationInterpretation,Interpretation
from slicer_fastai.data.verbs import SoundLearner
from slicer_fastai.use.finetune import NumberResult
import inspect, math, sys, types

@pytest.fixture(scope='module')
def enc():
    set_seed(0)
    return AudioEncoder('audiontt', **encoder_kw).eval()

def tags(f): return [parent_label(f), 'starts with '+parent_label(f)[0]]
def with_block(files, block, get_y):
    dblock = DataBlock((AudioBlock(), block), get_y=get_y, splitter=RandomSplitter(seed=0))
    return SlicerDataLoaders.from_dblock(dblock, files, bs=16, num_workers=0, device='cpu')

@pytest.fixture
def kinds(files, loaders):
    "Loaders without labels, with one, with several, with numbers"
    fs = files[::2]
    return dict(none=loaders(fs), one=loaders(fs, labels=fs.map(parent_label), valid_pct=.3), several=loaders(fs, labels=fs.map(tags), valid_pct=.3),
                number=with_block(fs, RegressionBlock(), lambda f: float(len(parent_label(f)))))

@pytest.fixture
def labelled(files, tmp_path):
    return SlicerDataLoaders.from_lists(tmp_path, files, files.map(parent_label), valid_pct=.4, bs=16, num_workers=0, device='cpu')

def image(ax):
    "The log-mel that was drawn, nats"
    drawn, = [o.get_array() for o in (*ax.images,*ax.collections)]
    return np.asarray(drawn).reshape(64, -1)*math.log(10)/10
def titles(fig=None): return [ax.get_title() for ax in (fig or plt.gcf()).axes if ax.images or ax.collections]
def title_of(y, dls):
    "What stands over a clip with the target `y`"
    if getattr(dls, 'vocab', None) is None: return f'{float(y):.3g}'
    return dls.vocab[int(y)] if y.ndim==0 else '; '.join(v for v,there in zip(dls.vocab, y) if there)

# --- show_batch and show_results

@pytest.mark.parametrize('kind', ['none','one','several','number'])
def test_show_batch_draws_on_the_axes_that_are_given(kinds, kind):
    dls = kinds[kind]
    b = dls.one_batch()
    axs = plt.subplots(2, 2)[1]
    n_figures = len(plt.get_fignums())
    dls.show_batch(b, ctxs=axs)
    assert len(plt.get_fignums())==n_figures
    for i,ax in enumerate(axs.flat):
        np.testing.assert_allclose(image(ax), b[0][i,0].numpy(), atol=1e-5)
        assert ax.get_title()==('' if kind=='none' else title_of(b[1][i], dls))
    plt.close('all')

@pytest.mark.parametrize('args,grid,drawn', [(dict(nrows=2), (2,3), 6), (dict(ncols=2), (3,2), 6), (dict(nrows=2, ncols=2), (2,2), 4), ({}, (2,4), 6)])
def test_rows_and_columns(kinds, args, grid, drawn):
    kinds['one'].show_batch(max_n=6, **args)
    spec = plt.gcf().axes[0].get_subplotspec().get_gridspec()
    assert (spec.nrows,spec.ncols)==grid and len(titles())==drawn
    plt.close('all')

@pytest.mark.parametrize('kind', ['none','one','several','number'])
def test_unique_is_one_clip_again_and_again(kinds, kind):
    "Other windows of it, as fastai shows other augmentations of an image; the loader is left as it was"
    dls,before = kinds[kind],len(kinds[kind].train)
    x,y,samples = dls.show_batch(unique=True, max_n=6, show=False)
    shown = [s[0] for s in samples]
    assert len(shown)==6 and not any(torch.equal(shown[0], o) for o in shown[1:])
    dls.show_batch(unique=True, max_n=4)
    assert len(set(titles()))==1
    plt.close('all')
    assert len(dls.train)==before and len({tuple(o[0].flatten()[:3].tolist()) for o in dls.train.dataset})>1
    if kind!='none': assert len(set(map(str, dls.one_batch()[1].tolist())))>1

def test_unique_windows_are_of_the_first_clip(loaders, files):
    "Each of them is found in the recording of the first item"
    dls = loaders(files[:24], level=None, duration=.3)
    waves = dls.train.new(after_batch=None)
    fn = dls.train_ds.items[0]
    whole = read_window(fn, None)
    from slicer_fastai.data.read import one_clip
    for window in one_clip(waves).one_batch()[0][:4,0].numpy():
        at = np.abs(np.lib.stride_tricks.sliding_window_view(whole, len(window))[:,:400]-window[:400]).max(1)
        assert at.min()<1e-5

def test_unique_on_shards_is_refused(files, tmp_path):
    fs = list(files[::3])
    dls = SlicerDataLoaders.from_webdataset(shard_folder(fs[0].parents[1], tmp_path/'s', files=fs, clips=20), bs=8, num_workers=0, device='cpu')
    with pytest.raises(ValueError, match='unique=True'): dls.show_batch(unique=True)

@pytest.mark.parametrize('kind', ['one','several','number'])
def test_show_results_draws_on_the_axes_that_are_given(kinds, enc, kind):
    "Label → answer over each clip, in the order of the batch; a loader without labels shows the answers"
    l = audio_learner(kinds[kind], enc)
    p,y,answers = quiet(l, l.get_preds, with_decoded=True)
    axs = plt.subplots(1, 3)[1]
    quiet(l, l.show_results, ctxs=axs, shuffle=False)
    of = lambda values,i: title_of(values[i], l.dls) or '–'
    assert [ax.get_title() for ax in axs]==[f'{of(y,i)} → {of(answers,i)}' for i in range(3)]
    quiet(l, l.show_results, nrows=2, max_n=6)
    assert plt.gcf().axes[0].get_subplotspec().get_gridspec().nrows==2
    fs = [o[0] if isinstance(o, tuple) else o for o in l.dls.valid_ds.items][:3]
    quiet(l, l.show_results, dl=l.dls.test_dl(fs))
    assert titles()==[of(answers,i) for i in range(3)]
    plt.close('all')

def test_neighbours_on_the_axes_that_are_given(tiny, loaders, files):
    l = tiny(dls=loaders(files[::3], valid_pct=.3))
    axs = plt.subplots(2, 3)[1]
    n_figures = len(plt.get_fignums())
    table = quiet(l, l.show_results, ctxs=axs, k=2)
    assert len(plt.get_fignums())==n_figures and len(table)==2 and all(image(ax).size for ax in axs.flat)
    assert [ax.get_title() for ax in axs[:,0]]==[Path(f).stem for f in table.file]
    assert len(quiet(l, l.show_results, nrows=1))==1
    with pytest.raises(ValueError, match='take 4'): l.show_results(ctxs=axs[0])
    plt.close('all')

# --- top losses of fastai's Interpretation

def test_top_losses_of_fastais_interpretation(enc, labelled):
    "The same clips, labels, answers and losses as of our own"
    l = audio_learner(labelled, enc)
    interp = quiet(l, ClassificationInterpretation.from_learner, l)
    own = quiet(l, l.plot_top_losses, 4)
    plt.close('all')
    with l.no_bar(): interp.plot_top_losses(4, nrows=1)
    assert titles()==[f'{o.label} → {o.answer}\nloss {o.loss:.2f}' for o in own.itertuples()]
    first = image(plt.gcf().axes[0])
    np.testing.assert_allclose(first, enc.front(enc.front.read(own.file[0], pos=0.)[None])[0,0].numpy(), atol=1e-4)
    assert interp.confusion_matrix().sum()==len(labelled.valid_ds)
    plt.close('all')

# --- other data

def test_other_data_is_checked_when_it_is_set(tiny, loaders, enc, labelled, files):
    l = tiny()
    before = l.dls
    with pytest.raises(ValueError, match=r'sr=8000 \(the encoder has 16000\).*front=learn.encoder.front'): l.dls = loaders(sr=8000, f_max=None)
    with pytest.raises(ValueError, match=r'n_mels=40 \(the encoder has 64\)'): l.dls = loaders(n_mels=40)
    assert l.dls is before
    l.dls = loaders(bs=4, front=l.encoder.front)
    quiet(l, l.fit, 1); assert len(l.recorder.losses)==8
    a = audio_learner(labelled, enc)
    with pytest.raises(ValueError, match=r'sr=8000'): a.dls = SlicerDataLoaders.from_lists('.', files, files.map(parent_label), sr=8000, f_max=None, num_workers=0, device='cpu')
    with pytest.raises(ValueError, match='no classes'): a.dls = loaders()
    few = files[:36]
    with pytest.raises(ValueError, match='other classes.*vocab=learn.dls.vocab'): a.dls = loaders(few, labels=few.map(parent_label))
    a.dls = loaders(few, labels=few.map(parent_label), vocab=a.dls.vocab)
    assert list(a.dls.vocab)==list(labelled.vocab)
    with pytest.raises(ValueError, match="'owl'.*not among the classes"): loaders(few, labels=['owl']*36, vocab=labelled.vocab)

def test_numbers_are_no_classes(enc, kinds):
    a = audio_learner(kinds['number'], enc)
    with pytest.raises(ValueError, match='answers with numbers'): a.dls = kinds['one']
    a.dls = with_block(kinds['none'].train_ds.items, RegressionBlock(), lambda f: 1.)
    assert quiet(a, a.validate)[0]>0

def test_validation_goes_on_hearing_all_windows(enc, labelled, files):
    "Of other data, too; what is set again stays what it is; without `whole` it is one window"
    l = audio_learner(labelled, enc)
    new = SlicerDataLoaders.from_lists('.', files, files.map(parent_label), valid_pct=.4, bs=16, num_workers=0, device='cpu', seed=3)
    n_windows = new.valid.one_batch()[0].shape[1]
    l.dls = new
    assert n_windows==1 and l.dls.valid.one_batch()[0].shape[1]>1 and l.dls.train.one_batch()[0].shape[1]==1
    p,_ = quiet(l, l.get_preds)
    np.testing.assert_allclose(p[0], l.predict(new.valid_ds.items[0][0])[2], atol=1e-3)
    held = l.dls
    l.dls = held
    assert l.dls is held
    l.export('x.pkl')
    assert l.dls is held
    one = audio_learner(labelled, enc, whole=False)
    one.dls = new
    assert one.dls.valid.one_batch()[0].shape[1]==1

# --- predict, result

def test_predict_with_input(enc, labelled, tiny):
    "What was heard comes first: put into the model, it gives the answer"
    l = audio_learner(labelled, enc); fn = labelled.valid_ds.items[0][0]
    heard,label,i,p = l.predict(fn, with_input=True)
    assert type(heard) is AudioSpectrogram and heard.shape[1:]==(64,96) and (label,i)==l.predict(fn)[:2]
    with torch.no_grad(): close(l.model.eval()(heard[None]).softmax(1)[0], p, 1e-3)
    several = l.predict([fn, fn], with_input=True, max_s=.9)
    assert [len(o) for o in several]==[4,4] and several[0][0].shape==(1,64,96)
    s = tiny(); heard,cluster,i,p = s.predict(fn, with_input=True)
    assert (cluster,len(p))==(s.predict(fn)[0],8)
    with torch.no_grad(): x = s.model.eval().student.encoder
    assert heard.shape[1:]==(64,96)

def test_result_of_numbers(enc, kinds):
    "Root mean square error: the column of the table; interval and picture as of other results"
    l = audio_learner(kinds['number'], enc)
    rmse_column = quiet(l, l.validate)[1]
    r = quiet(l, l.result)
    assert isinstance(r, NumberResult) and float(r)==pytest.approx(rmse_column, rel=1e-4)
    y,p = r.y[:,0],r.pred[:,0]
    assert r.mae==pytest.approx(np.abs(y-p).mean()) and r.r2==pytest.approx(1-((y-p)**2).sum()/((y-y.mean())**2).sum())
    low,high = r.interval()
    assert low<float(r)<high and f'rmse {float(r):.3g}' in repr(r)
    ax = r.plot(); assert ax.lines[0].get_xydata().tolist()==np.stack([y,p], 1).tolist(); plt.close('all')
    worse = NumberResult(r.y, r.pred+10)
    assert worse.minus(r)[0]==pytest.approx(float(worse)-float(r)) and worse.minus(r)[1]>0
    assert float(NumberResult([1.,2.], [1.,4.]))==pytest.approx(2**.5)
    import pickle; assert float(pickle.loads(pickle.dumps(r)))==float(r)

# --- the record, the summary

@pytest.mark.parametrize('which', ['slicer','audio'])
def test_what_the_recorder_holds(tiny, enc, labelled, which):
    "What trains records anew, what only looks leaves the record; `final_record` is what validate measured"
    l = tiny() if which=='slicer' else audio_learner(labelled, enc)
    quiet(l, l.fit, 2, 1e-3)
    rec = l.recorder
    before = {k:list(getattr(rec, k)) for k in ('lrs','iters','losses','values','metric_names')}
    res = quiet(l, l.validate); quiet(l, l.get_preds)
    assert {k:list(getattr(rec, k)) for k in before}==before and len(rec.values)==2
    quiet(l, l.validate); assert list(l.final_record)==list(res)
    quiet(l, l.lr_find, num_it=8, end_lr=.1, show_plot=False)
    assert len(rec.lrs)==len(rec.losses)==8 and rec.lrs[-1]>rec.lrs[0]
    rec.plot_lr_find(skip_end=0); assert len(plt.gca().lines[0].get_xdata())==8; plt.close('all')

def test_a_look_before_any_training(tiny, enc, labelled):
    for l in (tiny(), audio_learner(labelled, enc)):
        assert len(quiet(l, l.validate))>1
        quiet(l, l.fit, 1, 1e-3); assert len(l.recorder.values)==1

def test_summary_has_the_model_once(tiny):
    l = tiny(); s = str(quiet(l, l.summary))
    assert s.count('Conv2d')==3 and s.count('NormalizeSpec')==1 and 'SlicerModel(' not in s and len(repr(l.loss_func))<80
    n = sum(p.numel() for p in l.model.student.parameters())
    assert f'Total params: {n:,}' in s and f'a copy of the student, {n:,} params' in s and f'Queue: {len(l.model.queue):,}' in s
    quiet(l, l.fit, 1, 1e-3); l.freeze()
    assert 'Frozen up to parameter group 1' in str(quiet(l, l.summary))

# --- names and transforms

def arguments(f): return inspect.signature(f).parameters

@pytest.mark.parametrize('factory', ['from_lists','from_folder','from_df','from_csv','from_places','from_pack','from_webdataset','from_annotations'])
def test_factories_complete_what_they_take(factory):
    names = arguments(getattr(SlicerDataLoaders, factory))
    assert {'n_mels','n_fft','hop_length','f_min','f_max','pad_mode','duration'}<=set(names)
    takes_labels = factory in ('from_lists','from_pack','from_webdataset')       # of packs and shards: with theirs?
    assert ('labels' in names)==takes_labels

def test_waves_are_changed(loaders):
    "Functions, modules, audiomentations' way of calling; of training clips only; lengths and labels stay"
    seen = []
    class Halve:
        def __call__(self, samples, sample_rate): seen.append((samples.dtype.name, samples.shape, sample_rate)); return samples*.5
    class Gain(nn.Module):
        def __init__(self): super().__init__(); self.gain = nn.Parameter(torch.tensor(3.))
        def forward(self, waveform): return waveform*self.gain.detach()
    plain = loaders(level=None, windows=2)
    dls = loaders(level=None, windows=2, item_tfms=[Halve(), lambda x: -x], batch_tfms=Gain())
    dls.train.one_batch(); dls.valid.one_batch(); seen.clear()
    item = plain.train_ds[0]
    changed, = dls.train.after_item(item)
    close(changed, -.5*item[0]); assert seen==[('float32',(15200,),16000)]*2 and changed.sr==16000
    assert torch.equal(dls.valid.after_item(item)[0], item[0])
    batch = item[0][None]
    close(dls.train.after_batch((batch,))[0], plain.front(3*batch)); close(dls.valid.after_batch((batch,))[0], plain.front(batch))

def test_waves_keep_their_length(loaders):
    with pytest.raises(ValueError, match=r'shorter made waves of shape \(1, 100\)'):
        def shorter(x): return x[:,:100]
        loaders(item_tfms=shorter).one_batch()
    with pytest.raises(ValueError, match='3 in item_tfms'): loaders(item_tfms=3)

def test_transforms_of_fastai_keep_their_rules(loaders):
    class Louder(Transform):
        def encodes(self, x:AudioTensor): return x+1
    dls = loaders(item_tfms=Louder())
    x = AudioTensor(torch.zeros(1, 15200), sr=16000)
    assert dls.train.after_item((x,))[0].mean()==1==dls.valid.after_item((x,))[0].mean()

def test_modules_and_functions_among_the_views(tiny):
    "A module with one argument gets one; a second argument that is a setting is left alone"
    class Masking(nn.Module):
        def forward(self, specgram, mask_value=0.): return specgram*0+mask_value
    class Back(nn.Module):
        def forward(self, x, clean): return x*0+clean
    l = tiny(tfms=[Masking(), lambda x: x+1])
    x = l.dls.one_batch()[0]
    v1,v2 = l.model.views(x)
    assert (v1==1).all() and (v2==1).all()
    quiet(l, l.fit, 1, 1e-3); assert losses(l).isfinite().all()
    close(tiny(tfms=[nn.Identity(), Masking(), Back()]).model.views(x)[0], x)

# --- TensorBoard, one clip a batch

class Writer:
    "Takes what TensorBoard's writer would write"
    made = []
    def __init__(self, log_dir=None): self.graphs,self.scalars,self.figures = [],[],[]; Writer.made.append(self)
    def add_graph(self, model, *xb): self.graphs.append(torch.jit.trace(model, xb, strict=False, check_trace=False))
    def add_scalar(self, name, value, step): self.scalars.append((name, float(value)))
    def add_figure(self, name, figure, step): self.figures.append(titles(figure)); plt.close(figure)
    def close(self): pass

@pytest.fixture
def tensorboard(monkeypatch):
    "fastai's callback, with a writer that keeps what it gets; whether tensorboard is installed or not"
    fake = types.ModuleType('torch.utils.tensorboard'); fake.SummaryWriter = Writer
    for name,module in {'tensorboard':types.ModuleType('tensorboard'), 'torch.utils.tensorboard':fake}.items(): monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, 'fastai.callback.tensorboard', raising=False)
    Writer.made.clear()
    import importlib
    yield importlib.import_module('fastai.callback.tensorboard').TensorBoardCallback
    sys.modules.pop('fastai.callback.tensorboard', None)

@pytest.mark.parametrize('which', ['slicer','audio'])
def test_tensorboard_by_its_defaults(tensorboard, tiny, enc, labelled, which):
    l = tiny() if which=='slicer' else audio_learner(labelled, enc)
    quiet(l, l.fit, 1, 1e-3, cbs=tensorboard())
    writer, = Writer.made
    assert len(writer.graphs)==1 and len(writer.figures)==1
    written = dict(writer.scalars)
    for name,value in zip(l.recorder.metric_names[2:-1], l.recorder.values[-1][1:]): assert written[name]==pytest.approx(value)
    assert writer.scalars[0][0]=='train_loss' and [n for n,_ in writer.scalars].count('lr_0')>=len(l.recorder.losses)
    if which=='audio': assert all(' → ' in o for o in writer.figures[0]) and len(writer.figures[0])==9
    else: assert len(writer.figures[0])==3

def test_one_clip_a_batch_is_named(enc, files, loaders):
    "In one sentence, and not where the batch norm keeps its statistics"
    fs = files[:12]
    dls = loaders(fs, labels=['a','b']*6, bs=1, valid_idx=range(4))
    with pytest.raises(ValueError, match='one clip.*bs=2 or more.*keep_bn=True'): quiet(l := audio_learner(dls, enc), l.fine_tune, 1)
    l = audio_learner(dls, enc, keep_bn=True); quiet(l, l.fine_tune, 1); assert losses(l).isfinite().all()
    assert l.predict(fs[0])[0] in 'ab'
