"Pictures, sounds, and the page of a run"
from conftest import *
from slicer_fastai.train.health import *
from slicer_fastai.interpret.curves import gain_sentence, probe_gains
from slicer_fastai.interpret.views import mix_example
import base64, io, soundfile as sf

@pytest.fixture
def learn(tiny, loaders):
    l = tiny(loaders(valid_pct=.2), cbs=Health())
    quiet(l, l.fit, 2, 1e-3)
    yield l
    plt.close('all')

def test_views_show_boxes_and_partner(learn):
    axs = learn.show_views(2)
    assert axs.shape==(2,4) and len(axs[0,0].patches)==2
    assert 'cluster' in axs[0,0].get_title() and '%' in axs[0,1].get_title()
    assert {ax.get_xlabel() for ax in axs.flat}=={'s'} and {ax.get_ylabel() for ax in axs.flat}=={'Hz'}

def known(learn):
    "Places in the bank whose clip is known"
    who = learn.remember_files
    return [i for i in range(who.bank.size) if who.file(i)]

def test_views_name_the_files(tiny, loaders, tmp_path):
    "The clips of the bank are windows of the files named; other content has no name"
    learn = tiny(cbs=RememberFiles(), bank_size=64); who,bank,front = learn.remember_files,learn.model.views.kmix.bank,learn.encoder.front
    assert all('\n' not in ax.get_title() for ax in learn.show_views(2)[:,1])          # the content from before training
    quiet(learn, learn.fit, 2, 1e-3)
    fs = L(learn.dls.train_ds.items)
    assert len(known(learn))==64 and {who.file(i) for i in range(64)}<={*fs}
    for i in range(0, 64, 7):
        wins = front(front.windows(read_window(who.file(i), None), hop=.01))
        assert (wins[:,0].as_subclass(Tensor).mean(-1)-bank.feats[i]).abs().mean(1).min()<.12
    for ax in learn.show_views(2)[:,:2].flat: assert ax.get_title().split('\n')[1].lstrip('…') in {f.stem for f in fs}
    learn.path = tmp_path; learn.save('x')
    learn.lr_find(num_it=5, show_plot=False)                                # lr_find puts the bank back: what it overwrote is unknown, the rest known
    assert 0<len(known(learn))<64
    quiet(learn, learn.fit, 2, 1e-3); assert len(known(learn))==64
    learn.load('x'); assert not known(learn)
    assert not any('remember' in k or 'file' in k for k in learn.model.state_dict())

def test_no_names_once_a_file_was_skipped(files, tiny, loaders, tmp_path):
    bad = tmp_path/'bad.wav'; bad.write_bytes(b'no sound')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        l = tiny(loaders([*files[:20], bad], valid_idx=[0,1]), cbs=RememberFiles())
        quiet(l, l.fit, 2, 1e-3)
    assert not known(l) and not any('\n' in ax.get_title() for ax in l.show_views(1).flat)

def test_names_come_with_workers(tiny, loaders):
    l = tiny(loaders(num_workers=2), cbs=RememberFiles(), bank_size=16)
    quiet(l, l.fit, 1, 1e-3)
    who,front = l.remember_files,l.encoder.front
    assert len(known(l))==16
    for i in (0,7,15):
        wins = front(front.windows(read_window(who.file(i), None), hop=.01))
        assert (wins[:,0].as_subclass(Tensor).mean(-1)-who.bank.feats[i]).abs().mean(1).min()<.12

def test_names_of_a_cancelled_batch_and_of_packs(tiny, loaders, sounds, tmp_path):
    class Cancel(Callback):
        order = SLICER.order-1
        def before_batch(self):
            if self.training and self.iter==1: raise CancelBatchException
    l = tiny(cbs=[RememberFiles(), Cancel()], bank_size=64); quiet(l, l.fit, 1)
    assert len(known(l))==3*8
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        dls = SlicerDataLoaders.from_pack(pack_audio(sounds, tmp_path/'pack'), bs=8, num_workers=0, device='cpu', labels=False)
    l = tiny(dls, cbs=RememberFiles(), bank_size=16); quiet(l, l.fit, 1)
    assert len(known(l))==16 and '\n' in l.show_views(1)[0,1].get_title()

def test_two_windows_are_both_shown(tiny, loaders):
    axs = tiny(loaders(windows=2)).show_views(2)
    assert axs.shape==(2,5) and [len(ax.patches) for ax in axs[0]]==[1,1,0,0,0]
    assert [ax.get_title().split()[0] for ax in axs[0]]==['window','window','mixed','view','view']

def test_views_without_mix(tiny):
    assert tiny(tfms='').show_views(1).shape==(1,3)
    with pytest.raises(ValueError, match='kmix'): tiny(tfms='crop').plot_kmix()

def test_kmix_picture(learn):
    axs,km = learn.plot_kmix(),learn.model.views.kmix
    n = int(km.bank.count.clamp_max(km.bank.size))
    assert sum(p.get_height() for p in axs[1].patches)==n                   # each clip of the bank in one cluster
    close(np.asarray(axs[2].images[0].get_array()), 1-km.centroids@km.centroids.T, tol=1e-4)

def test_kmix_example_mixes(learn):
    x,km = learn.dls.one_batch()[0],learn.model.views.kmix
    full = int(km.clusters(torch.nn.functional.normalize(km.bank.feats[:16], dim=1)).mode().values)
    close(mix_example(learn, x[:1], full, 0.)[0][2], x[0].as_subclass(Tensor), tol=1e-4)
    pytest.importorskip('ipywidgets')
    w = learn.explore_kmix(hear=False)
    assert [type(o).__name__ for o in w.children[:3]]==['IntSlider','IntSlider','FloatSlider']
    page = w._repr_mimebundle_()                                            # with a kernel the widget, without one a picture
    assert {'application/vnd.jupyter.widget-view+json','image/jpeg'}<=set(page) and base64.b64decode(page['image/jpeg'])[:2]==b'\xff\xd8'

def test_sliders_redraw(learn, monkeypatch):
    pytest.importorskip('ipywidgets'); pytest.importorskip('librosa')
    import slicer_fastai.interpret.views as m
    heard,drawn = [],[]
    monkeypatch.setattr(m, 'players', lambda ws, labels=None: ws)
    monkeypatch.setattr(m, 'display', lambda ws: (heard.append([w.clone() for w in ws]), drawn.append([ax.images[0].get_array().copy() for ax in plt.gcf().axes if ax.images]), plt.close('all')))
    n = []; to_audio = AudioSpectrogram.to_audio
    monkeypatch.setattr(AudioSpectrogram, 'to_audio', lambda self, *a: (n.append(1), to_audio(self, *a))[1])
    w = learn.explore_kmix(max_n=4)
    w.update(); assert len(n)==2; k = len(heard)                           # clip and partner
    same = lambda i: [torch.equal(a, b) for a,b in zip(heard[-1], heard[-2])][i], lambda i: np.array_equal(drawn[-1][i], drawn[-2][i])
    w.children[2].value = .6
    assert len(heard)==k+1 and len(n)==2                                      # nothing is inverted again: α answers at once
    assert [f(i) for f in same for i in range(3)]==[True,True,False]*2
    a,b,mix = heard[-1]; close(mix, .4**.5*a+.6**.5*b, tol=1e-5)
    full = [c for c in range(len(m.learner_kmix(learn).centroids)) if c!=w.children[1].value and (m.bank_clusters(m.learner_kmix(learn))[1]==c).any()][0]
    w.children[1].value = full
    assert len(heard)==k+2 and [f(i) for f in same for i in range(3)]==[True,False,False]*2
    w.children[0].value = 1
    assert len(heard)==k+3 and not any(f(0) or f(2) for f in same)

def test_sliders_in_a_notebook(monkeypatch):
    "In a kernel with a front end, moving a slider puts another picture and other players into the widget"
    for o in ('ipywidgets','librosa','ipykernel'): pytest.importorskip(o)
    monkeypatch.delenv('MPLBACKEND', raising=False)                         # the kernel draws into the notebook, as a user's does
    nbclient,nbformat = pytest.importorskip('nbclient'),pytest.importorskip('nbformat')
    cells = ['''from slicer_fastai.all import *
dls = SlicerDataLoaders.from_folder(synth_sounds(n=2), bs=8, num_workers=0, device='cpu')
learn = SlicerLearner(dls, arch_kwargs=dict(d=32, width=8), n_clusters=8, hidden=32)''', 'w = learn.explore_kmix(max_n=2); w',
        'before = [dict(o) for o in w.out.outputs]', 'w.children[2].value = .9', '''after = [dict(o) for o in w.out.outputs]
assert [list(o['data'])[-1] for o in after]==['image/png','text/html'], after
assert all(a!=b for a,b in zip(before, after))''']
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(o) for o in cells])
    nbclient.NotebookClient(nb, timeout=180, kernel_name='python3').execute()

def test_map_by_umap(learn, files, monkeypatch):
    emb = learn.embed(files[:30])
    try: import umap
    except ImportError: pass
    else: assert np.isfinite(learn.plot_map(files[:30], emb=emb, method='umap')[1]).all()
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match='pip install umap-learn'): learn.plot_map(files[:30], emb=emb, method='umap')

def test_map(learn, files):
    fs = files[:30]; emb = learn.embed(fs)
    ax,xy = learn.plot_map(fs, emb=emb, method='pca')
    from sklearn.decomposition import PCA
    z = (emb-emb.mean(0))/(emb.std(0)+1e-6)
    close(np.abs(xy), np.abs(PCA(2).fit_transform(z/np.linalg.norm(z, axis=1, keepdims=True))), tol=1e-3)
    p = learn.assign(fs)
    close(p.sum(1), torch.ones(30))
    with pytest.raises(ValueError, match='method'): learn.plot_map(fs, emb=emb, method='x')
    with pytest.raises(ValueError, match='by'): learn.plot_map(fs, emb=emb, by='x')

def test_map_page_plays_the_files(learn, files, tmp_path):
    text = learn.map_html(tmp_path/'m.html', files[:6]).read_text()
    srcs = re.findall(r'data-sound="data:audio/mpeg;base64,([^"]+)"', text)
    assert len(srcs)==6
    x,sr = sf.read(io.BytesIO(base64.b64decode(srcs[0])))
    y = read_window(files[0], .95)
    n = min(len(x), len(y)); assert sr==16000 and abs(len(x)-len(y))<2500
    corr = max(np.corrcoef(x[d:n], y[:n-d])[0,1] for d in range(0, 2000))   # mp3 delays by a frame or two
    assert corr>.9, corr

def test_clusters_and_neighbours(learn, files):
    df = learn.plot_clusters(2, 3, labels=parent_label, hear=False)
    p = learn.assign(df.files[0])
    assert (p.argmax(1)==df.cluster[0]).all() and (p[:,df.cluster[0]].diff()<=1e-6).all()
    assert df.purity.between(0, 1).all() and df.label[0] in {f.parent.name for f in files}
    df = learn.neighbours(files[3], files, k=4, hear=False)
    z = learn.embed(files); z = (z-z.mean(0))/(z.std(0)+1e-6); z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert df.file[1]==str(files[int(np.argsort(-z@z[3])[1])])

def test_listens_is_the_gradient(learn):
    m,x = learn.model.train(),learn.dls.one_batch()[0][:2]
    v1,v2 = m.views(x)
    sal,sim = listens(m, v1, v2)
    assert m.training and sal.shape==(2,64,96)
    with untouched(m):
        close(sim, (m.student(v1)[0]*m.teach(v2, v2)[0]).sum(1))
        i,j = divmod(int(sal[0].argmax()), 96)
        up,down = [o.clone() for o in (v1,v1)]
        up[0,0,i,j] += .02; down[0,0,i,j] -= .02
        slope = ((m.student(up)[0]-m.student(down)[0])[0]*m.teach(v2, v2)[0][0]).sum()/.04
    assert abs(abs(float(slope*(v1[0,0,i,j]-m.encoder.norm.mean)))/float(sal[0,i,j])-1)<.1

def test_hear_a_spectrogram(files, monkeypatch):
    pytest.importorskip('librosa')
    s = FrontEnd().specs(files[:1])[0]
    back = LogMel()(s.to_audio())
    n = back.shape[-1]; loud = (s[...,:n]>s.max()-7)
    assert float((s[...,:n]-back).abs()[loud].mean())<1
    assert 'audio' in s.hear()._repr_html_()
    monkeypatch.setitem(sys.modules, 'librosa.feature.inverse', None)
    with pytest.raises(ImportError, match='pip install'): s.to_audio()

def test_labels_of_players_are_escaped(files):
    text = players([FrontEnd().read(files[0])], ['<b>&"']).data
    assert '<b>' not in text and '&lt;b&gt;&amp;' in text

def test_losses_are_drawn_after_other_verbs(tiny, loaders):
    "After validate, predictions, and a fit that begins later"
    l = tiny(loaders(valid_pct=.2)); quiet(l, l.fit, 2, 1e-3)
    assert len(l.plot_losses()[0].lines[0].get_xdata())==2
    quiet(l, l.get_preds); l.plot_losses()
    assert len(quiet(l, l.validate))==5 and len(l.plot_losses()[0].lines[0].get_xdata())==2
    quiet(l, l.fit, 3, 1e-3, start_epoch=1)
    assert l.plot_losses()[1].lines[0].get_xdata().tolist()==[2,3]          # the epochs that were run
    l.recorder.values = []
    with pytest.raises(ValueError, match='fit first'): l.plot_losses()
    quiet(l, l.fit, 2, 1e-3, cbs=Health()); l.recorder.values = []
    assert len(l.plot_losses()[0].lines[0].get_xdata())==2                   # by the log of Health
    l = tiny(loaders(valid_pct=.2), metrics=[]); quiet(l, l.fit, 1)
    with pytest.raises(ValueError, match='instance_loss'): l.plot_losses()
    plt.close('all')

def test_a_loaded_learner_draws_files(learn, files, tmp_path):
    "It holds no clips: with files it draws, without them it says in one sentence what is missing"
    learn.path = tmp_path; learn.add_cb(RememberFiles()); learn.export('l.pkl')
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); l = load_learner(tmp_path/'l.pkl')
    assert l.plot_losses().shape==(2,) and len(l.plot_health())==8 and l.diagnose()==learn.diagnose() and len(l.plot_kmix())==7
    for f in (l.show_views, l.plot_map, l.map_html, l.plot_clusters, l.show_results, l.plot_listens):
        with pytest.raises(ValueError, match='pass files='): f()
    fs = files[:6]
    close(l.embed(fs), learn.embed(fs))
    assert l.show_views(2, files=fs).shape==(2,4) and l.plot_map(fs)[1].shape==(6,2) and l.plot_listens(1, files=fs).shape==(1,3)
    assert len(l.plot_clusters(files=fs, hear=False)) and len(l.neighbours(fs[0], fs, k=2, hear=False))==3
    text = l.report(tmp_path/'r.html').read_text()
    assert text.count('class="lacks"')==5 and learn.diagnose().split(':')[0] in text
    assert 'class="lacks"' not in l.report(tmp_path/'r.html', files=fs).read_text()

def test_pictures_leave_out_unreadable_files(tiny, loaders, files, tmp_path):
    bad = tmp_path/'bad.wav'; bad.write_bytes(b'no sound')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        l = tiny(loaders([*files[:20], bad], valid_idx=[0,1,20])); quiet(l, l.fit, 1)
        assert len(l.plot_map()[1])==20 and len(l.show_results())==2
        l.plot_clusters(2, 2, hear=False); l.report(tmp_path/'r.html', max_n=50)

def test_report_at_first_contact(tiny, loaders, tmp_path, monkeypatch):
    "Before any fit, without arguments, in any folder: a page that says what is missing"
    monkeypatch.chdir(tmp_path)
    fn = tiny(loaders(path=tmp_path), tfms='crop').report(max_n=5)
    assert fn==Path('report.html') and fn.exists()
    text = fn.read_text()
    assert text.count('class="lacks"')==3 and 'cbs=Health()' in text and 'no k-mix' in text

def test_gain_has_a_standard_error():
    row = lambda p,n=100: dict(knn=p, knn_n=n)
    g, = probe_gains([row(.417), row(.4)])
    assert abs(g.se-math.sqrt(.24/100))<1e-6
    assert 'Too few labelled clips to tell' in gain_sentence([g])
    assert 'Nothing was gained' in gain_sentence(probe_gains([row(.417, 1000), row(.4, 1000)]))
    assert 'better than before' in gain_sentence(probe_gains([row(.4), row(.7)])) and 'worse' in gain_sentence(probe_gains([row(.7), row(.4)]))
    assert 'without labels' in gain_sentence(probe_gains([dict(epoch=0), dict(epoch=1)])) and not probe_gains([]) and not probe_gains(None)

def test_spec_grid_draws_all_of_a_batch(files):
    "A batch of spectrograms is as good as a list of them: none is left out, and titles that do not fit are an error"
    specs = FrontEnd().specs(files[:3])
    assert [ax.get_title() for ax in spec_grid(specs, list('abc'))]==list('abc')
    with pytest.raises(ValueError, match='3 spectrograms, but 2 titles'): spec_grid([*specs], list('ab'))
    plt.close('all')
