"Pictures, sounds, and the page of a run"
from conftest import *
from slicer_fastai.health import *
from slicer_fastai.report import *
from slicer_fastai.interpret import _mix_example
import base64, io, shutil, subprocess, soundfile as sf

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

def test_views_name_the_files(learn, tmp_path):
    import soundfile as sf
    m,fs = learn.model,L(learn.dls.train_ds.items)
    ids = file_ids(learn.dls.train_ds); assert len(ids.unique())==len(fs)
    n = int(m.bank.count.clamp_max(m.bank.size))
    assert (m.bank_ids[:n]!=0).all() and n==len(m.bank_ids)
    ds = learn.dls.train_ds                                                 # the clips of the bank are windows of the files named
    for i in range(0, n, 3):
        f = fs[int((ids==m.bank_ids[i]).nonzero()[0])]
        x = read_window(f, None)
        wins = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(pad_to(x, max(len(x), 15200), 'zero'), 15200)[::160].copy())[:,None]
        feats = Pipeline([NormalizeLevel('peak'), LogMel()])(AudioTensor(wins, sr=16000))[:,0].as_subclass(Tensor).mean(-1)
        assert (feats-m.bank.feats[i]).abs().mean(1).min()<.12, (f, (feats-m.bank.feats[i]).abs().mean(1).min())
    for ax in learn.show_views(2)[:,:2].flat: assert ax.get_title().split('\n')[1].lstrip('…') in {f.stem for f in fs}
    learn.path = tmp_path; learn.save('x'); before = m.bank_ids.clone()
    learn.lr_find(num_it=5, show_plot=False); assert torch.equal(before, m.bank_ids)
    learn.dls = SlicerDataLoaders.from_lists(tmp_path, fs[:4], bs=2, num_workers=0, device='cpu', valid_idx=[0])
    learn.load('x')                                                         # other data: who is not among them has no name
    known = {o.stem for o in learn.dls.train_ds.items}
    for ax in learn.show_views(2)[:,1]: assert '\n' not in ax.get_title() or ax.get_title().split('\n')[1] in known

def test_no_names_once_a_file_was_skipped(files, tiny, loaders, tmp_path):
    bad = tmp_path/'bad.wav'; bad.write_bytes(b'no sound')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        l = tiny(loaders([*files[:20], bad], valid_idx=[0,1]))
        assert not l.model.bank_ids.any()                                   # the sample met it: nobody knows who moved up
        quiet(l, l.fit, 2, 1e-3)
    assert not l.model.bank_ids.any() and '\n' not in l.show_views(1)[0,1].get_title()

def test_names_come_with_workers(tiny, loaders):
    l = tiny(loaders(num_workers=2))
    l.model.bank_ids.zero_(); quiet(l, l.fit, 1, 1e-3)
    seen = l.model.bank_ids[l.model.bank_ids!=0]
    assert len(seen)==min(32, len(l.model.bank_ids)) or len(seen)==len(l.model.bank_ids), len(seen)

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
    close(_mix_example(learn, x, full, 0., 0, hear=False)[1][0], x[0].as_subclass(Tensor), tol=1e-4)
    pytest.importorskip('ipywidgets')
    assert [type(o).__name__ for o in learn.explore_kmix(hear=False).children[:3]]==['IntSlider','IntSlider','FloatSlider']

def test_sliders_redraw(learn, monkeypatch):
    pytest.importorskip('ipywidgets'); pytest.importorskip('librosa')
    import slicer_fastai.interpret as m
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
    full = [c for c in range(len(m._kmix(learn).centroids)) if c!=w.children[1].value and (learn.model.views.kmix.clusters(torch.nn.functional.normalize(learn.model.bank.feats, dim=1))==c).any()][0]
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
    nbclient.NotebookClient(nb, timeout=120, kernel_name='python3').execute()

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
    close(np.abs(xy), np.abs(PCA(2).fit_transform(emb/np.linalg.norm(emb, axis=1, keepdims=True))), tol=1e-4)
    p = learn.assign(fs)
    close(p.sum(1), torch.ones(30))
    with pytest.raises(ValueError, match='method'): learn.plot_map(fs, emb=emb, method='x')
    with pytest.raises(ValueError, match='by'): learn.plot_map(fs, emb=emb, by='x')

def test_map_page_plays_the_files(learn, files, tmp_path):
    text = learn.map_html(tmp_path/'m.html', files[:6]).read_text()
    srcs = re.findall(r'data-s="data:audio/mpeg;base64,([^"]+)"', text)
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
    z = learn.embed(files); z /= np.linalg.norm(z, axis=1, keepdims=True)
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
    s = clip_specs(files[:1], dict(duration=.95, pad='zero', level='peak', **LogMel().cfg))[0]
    back = LogMel()(s.to_audio())
    n = back.shape[-1]; loud = (s[...,:n]>s.max()-7)
    assert float((s[...,:n]-back).abs()[loud].mean())<1
    assert 'audio' in s.hear()._repr_html_()
    monkeypatch.setitem(sys.modules, 'librosa.feature.inverse', None)
    with pytest.raises(ImportError, match='pip install'): s.to_audio()

def test_report(learn, tmp_path):
    before,rng = state(learn.model),torch.get_rng_state()
    fn = learn.report(tmp_path/'run.html', labels=parent_label, max_n=12)
    assert not differ(before, state(learn.model)) and torch.equal(rng, torch.get_rng_state())
    text = fn.read_text()
    assert fn.stat().st_size<5e6 and 'http' not in re.sub('base64,[^"]+', '', text)
    assert learn.diagnose() in text and text.count('<h2>')==8
    for png in re.findall('data:image/png;base64,([^"]+)', text): assert base64.b64decode(png)[:4]==b'\x89PNG'
    chrome = shutil.which('chromium') or shutil.which('google-chrome')
    if chrome is None: return
    shot = tmp_path/'shot.png'
    subprocess.run([chrome, '--headless', '--no-sandbox', '--disable-gpu', f'--screenshot={shot}', '--window-size=1000,3000', f'file://{fn}'], check=True, capture_output=True, timeout=60)
    img = plt.imread(shot)
    assert img.shape[:2]==(3000,1000) and img[...,:3].std()>.1              # something was drawn
