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
