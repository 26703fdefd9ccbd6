"The pages that people open: the site, a report, a comparison, seen by a real browser"
from conftest import *
import html, importlib.util, inspect, re, shutil, threading
from slicer_fastai.interpret.compare import read_run
from slicer_fastai.interpret.curves import gain_sentence, probe_gains
from markupsafe import escape
from functools import partial
from http.server import ThreadingHTTPServer, SimpleHTTPRequestHandler
from hypothesis import given, strategies as st
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

root = Path(__file__).parents[1]

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='module')
def chrome(tmp_path_factory):
    "A headless Chromium"
    browser,driver = shutil.which('chromium') or shutil.which('google-chrome'),shutil.which('chromedriver')
    assert browser and driver, 'no browser to look with: .ci/browser installs one'
    o = webdriver.ChromeOptions()
    o.binary_location = browser
    for a in ('headless','no-sandbox','disable-gpu','disable-quic','no-first-run','disable-background-networking','disable-component-update',
              'disable-sync','disable-dev-shm-usage','autoplay-policy=no-user-gesture-required',f'user-data-dir={tmp_path_factory.mktemp("chrome")}'):
        o.add_argument(f'--{a}')
    o.set_capability('goog:loggingPrefs', dict(browser='ALL'))
    d = webdriver.Chrome(options=o, service=webdriver.ChromeService(driver))
    yield d
    d.quit()

def opened(chrome, url, width):
    "Open a page at a width; what its console said, and how far it is wider than the screen"
    chrome.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=900, deviceScaleFactor=1, mobile=width<500))
    chrome.get(url)
    wide = chrome.execute_script('return document.documentElement.scrollWidth')-width
    return [o['message'] for o in chrome.get_log('browser') if o['level'] in ('SEVERE','WARNING')],wide

def empty_pictures(chrome):
    "Pictures of the page that are broken, or of one colour"
    return chrome.execute_async_script('''const done = arguments[0]
    Promise.all([...document.images].map(async i => { i.loading = 'eager'; await i.decode().catch(() => 0)
      if (!i.naturalWidth) return i.src.slice(-60)
      const c = document.createElement('canvas'); c.width = c.height = 32
      const g = c.getContext('2d'); g.drawImage(i, 0, 0, 32, 32)
      const d = g.getImageData(0, 0, 32, 32).data
      return new Set(Array.from(d).filter((_, k) => k%4<3)).size<8 ? i.alt || i.src.slice(-60) : '' })).then(o => done(o.filter(Boolean)))''')

def plays(chrome):
    "Does the first player of the page play?"
    return chrome.execute_async_script('''const done = arguments[0], a = document.querySelector('audio')
    a.addEventListener('timeupdate', () => { if (a.currentTime>0) done(true) })
    a.addEventListener('error', () => done('no sound')); a.play().catch(e => done(String(e)))''')

@pytest.fixture(scope='module')
def maker():
    "The site's maker, .ci/site.py, as a module"
    spec = importlib.util.spec_from_file_location('site_maker', root/'.ci/site.py')
    m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
    return m

@pytest.fixture(scope='module')
def url(maker, tmp_path_factory):
    "Five pages of the site, as a server shows them; .ci/site.py itself checks the links of all"
    d = tmp_path_factory.mktemp('site')/'_site'
    maker.build(d, ['index.ipynb','augment/mix.ipynb','tutorials/glossary.ipynb','train/learner.ipynb','use/search.ipynb'])
    s = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(d)))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown(); s.server_close()

def test_dead_links_are_found(maker, tmp_path):
    (tmp_path/'index.html').write_text('<a href="a.html">x</a><a href="b.html">x</a><a href="index.html">x</a>')
    (tmp_path/'a.html').write_text('<a href="#no">x</a><a href="#yes">x</a><p id="yes"></p><img src="c.png"><audio></audio>'
                                   '<audio><source src="data:audio/mpeg;base64,"></audio>')
    (tmp_path/'alone.html').write_text('<a href="a.html#yes">x</a>')
    assert [o.split(': ', 1)[1] for o in maker.faults(tmp_path)]==['no anchor #no', 'img c.png leads nowhere', 'audio without source',
        'a b.html leads nowhere', 'index.html does not lead there']

def test_the_site_in_a_browser(url, chrome):
    for p in ('index','tutorials/glossary','augment/mix'):
        for width in (390,1280):
            said,wide = opened(chrome, f'{url}/{p}.html', width)
            assert not said and wide<=0, (p, width, said, wide)
        assert not empty_pictures(chrome)
    assert plays(chrome) is True
    opened(chrome, f'{url}/index.html', 1280)
    assert 'trains such an encoder on recordings' in chrome.find_element(By.TAG_NAME, 'main').text      # in one cell with the title
    chrome.find_element(By.CSS_SELECTOR, 'input[type=search]').send_keys('KMix')
    assert WebDriverWait(chrome, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, 'a[href*="augment/mix.html#KMix"]'))

def searched(chrome, url, words):
    "Addresses that the search answers with, best first"
    opened(chrome, f'{url}/index.html', 1280)
    box = chrome.find_element(By.CSS_SELECTOR, 'input[type=search]')
    box.send_keys(words)
    found = WebDriverWait(chrome, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, '.search-result'))
    return [o.get_attribute('href').removeprefix(url+'/') for o in found]

def test_search_takes_several_words_arguments_and_titles(url, chrome):
    assert searched(chrome, url, 'install and test')[0]=='index.html#install-and-test'
    assert 'train/learner.html#SlicerLearner' in searched(chrome, url, 'momentum')[:3]
    assert searched(chrome, url, 'few labels')[0]=='index.html#few-labels'
    assert searched(chrome, url, 'glossary')[0]=='tutorials/glossary.html'
    assert 'index.html' in searched(chrome, url, 'snare raven glossary')[0]              # in no section together, but on one page

def test_reference_lists_all_arguments(maker):
    "Types, defaults and what each one means, inherited ones too, in groups; then the source, folded"
    from slicer_fastai.train import learner
    nb = maker.read_nb(root/'nbs/train/learner.ipynb')
    cell = next(c for c in nb.cells if 'class SlicerLearner' in c.source)
    text = maker.reference.reference(cell.source, learner)
    for o in ('`tfms=', '`temp: float = 0.1`', '`momentum: float = 0.99`', '`path: '): assert f'| {o}' in text, o
    rows = re.findall(r'^\| `(\w+).*?` \| (.*) \|$', text, flags=re.M)
    named = dict(rows)
    wanted = {o for g in maker.reference.groups['SlicerLearner'].values() for o in g.split()}
    parameters = set(inspect.signature(SlicerLearner).parameters)-{'self'}
    assert parameters==set(named) and wanted<=parameters
    assert sum(not o for o in named.values())==0, [k for k,v in named.items() if not v]
    assert text.index('To begin with')<text.index('To tune')<text.index('For research')

def test_reference_says_what_is_raised_and_returned(maker):
    "Errors that a docstring names stand in a table, the rest of it stays; a return has its type and its shape"
    split = maker.reference.split_errors
    assert split('Put clips in, in place of the oldest; ValueError where they are of another size') == \
        ('Put clips in, in place of the oldest', [('ValueError', 'where they are of another size')])
    assert split('Write it; raises FolderBusy while another writes, OSError where the disk is full. Then go on.') == \
        ('Write it. Then go on.', [('FolderBusy', 'while another writes'), ('OSError', 'where the disk is full')])
    assert split('Clips of a folder. ValueError for none')==('Clips of a folder.', [('ValueError', 'for none')])
    whole = 'Count an error, and go on\n\nAn ImportError that is raised inside is shown'
    assert split(whole)==(whole, [])
    from slicer_fastai.audio import real
    cell = next(c for c in maker.read_nb(root/'nbs/audio/real.ipynb').cells if 'def real_sounds' in c.source)
    text = maker.reference.reference(cell.source, real)
    assert '| `ValueError` | for a kind that is not there |' in text and '**Returns** `Path`: the folder: <kind>' in text

def test_links_to_the_repository_come_from_one_setting(maker):
    "Without an address they are left out, not dead"
    without,given = maker.buttons('use/search.ipynb', ''),maker.buttons('use/search.ipynb', 'https://github.com/me/it')
    assert without.count('<a ')==1 and 'href="search.ipynb" download' in without
    assert 'colab.research.google.com/github/me/it/blob/main/nbs/use/search.ipynb' in given and 'it/edit/main/nbs/use/search.ipynb' in given

evil = '<img src=x onerror=alert(1)>"&'         # as title, label, and name of a folder, a file, a run

@pytest.fixture(scope='module')
def runs(files, tmp_path_factory):
    "Two runs, the report of one, and their comparison"
    d = tmp_path_factory.mktemp('runs')/evil; d.mkdir()
    fs = [Path(shutil.copy(f, d/f'{i}{evil}{f.suffix}')) for i,f in enumerate(files[::3])]
    half = lambda i: (files[i::2], files[i::2].map(parent_label))
    def fit(lr):
        dls = SlicerDataLoaders.from_lists(d, fs, bs=8, num_workers=0, device='cpu', windows=1)
        set_seed(0)
        l = SlicerLearner(dls, arch_kwargs=encoder_kw, **model_kw, tfms='mixup crop kmix')
        quiet(l, l.fit, 2, lr, cbs=[Health(), KNNProbe(half(0), half(1), max_n=60)])
        return l
    a,b = fit(1e-3),fit(1e-5)
    before,rng,figs = state(a.model),torch.get_rng_state(),plt.get_fignums()
    one = a.report(d.parent/'report.html', title=evil, labels=lambda f: evil, max_n=12, notes={evil:evil})
    assert not differ(before, state(a.model)) and torch.equal(rng, torch.get_rng_state()) and plt.get_fignums()==figs
    return SimpleNamespace(a=a, b=b, d=d.parent, one=one, both=compare(one, b, fn=d.parent/'both.html', names=[evil,'low lr']))

def test_report(runs):
    "Whole, safe with any name, and silent on where the folder is"
    assert [o.name for o in runs.d.iterdir() if 'report' in o.name]==['report.html']
    text,a = runs.one.read_text(),runs.a; plain = html.unescape(text)
    assert runs.one.stat().st_size<5e6 and 'http' not in re.sub('base64,[^"]+', '', text)
    assert a.diagnose() in plain and text.count('<h2')==11 and 'class="lacks"' not in text and len(re.findall('<circle', text))==12
    for o in ('date','versions','seed','data','epochs','largest lr','time',escape(evil)): assert f'<th>{o}</th>' in text
    assert f'<td>{sum(o["seconds"] for o in a.health_log[1:]):.0f} s</td>' in text
    was,now = a.health_log[0]['knn'],a.health_log[-1]['knn']
    assert f'knn: the untrained encoder {was:.1%} ±' in plain and f'trained {now:.1%} ±' in plain and torch.__version__ in text
    for fn in (runs.one,runs.both): assert '<img src=x' not in fn.read_text() and str(runs.d) not in fn.read_text()

def test_report_and_comparison_in_a_browser(runs, chrome):
    for fn in (runs.one,runs.both):
        for width in (1280,390):
            said,wide = opened(chrome, fn.as_uri(), width)
            assert not said and wide<=0, (fn.name, width, said, wide)
        assert not empty_pictures(chrome)
        if fn==runs.one: assert plays(chrome) is True
        words = chrome.find_element(By.TAG_NAME, 'body').text
        for o in (evil,'trained (95 %)','largest lr',runs.a.diagnose()): assert o in words, (fn.name, o)
    assert runs.b.diagnose() in words and ('cannot be told apart' in words or 'is better' in words) and "['" not in words

def test_a_record_survives_the_page(runs, tmp_path):
    "compare reads from a report what it would read from the learner; a page without figures says so"
    page,learner = read_run(runs.one),read_run(runs.a)
    for k in ('health','gains','log','last'): assert page[k]==learner[k], k
    assert read_run(runs.d)==page
    (tmp_path/'x.html').write_text('<p>no figures</p>')
    with pytest.raises(ValueError, match='has no figures'): compare(runs.d, tmp_path/'x.html')
    with pytest.raises(ValueError, match='two are needed'): compare(runs.a)

@given(st.floats(0,1), st.floats(0,1), st.integers(10,400), st.floats(-.5,4))
def test_health_and_gain_never_contradict(a, b, n, below):
    "The words on the probe follow one rule, whatever the curves"
    row = lambda e,p,l: dict(epoch=e, loss=l, lr=1e-3, instance_loss=5-l, chance=5., accuracy=.3, cluster_loss=1., entropy=2., n_clusters=8,
        spread=.9, spread_q=.9, rank=20., alignment=.5, uniformity=-2., clusters=8, teacher=.1, queue=1., clips=64, knn=p, knn_n=n, knn_untrained=a)
    log = [row(0,a,0.),row(1,(a+b)/2,below/2),row(2,b,below)]
    health,words = health_sentence(log),gain_sentence(probe_gains(log))
    assert ('better than the' in health)==('better than before' in words)
    assert ('worse than the' in health)==('made it worse' in words)
    assert ('no gain over' in health)==('Nothing was gained' in words or 'Too few labelled clips' in words)

def test_a_report_begins_with_a_plain_sentence_and_sounds(runs):
    "Did it help, in words for those who do not train; sounds before figures; the folder and the date as title"
    from slicer_fastai.interpret.report import ReportData, default_title, plain_sentence
    text = runs.one.read_text()
    places = [text.index(o) for o in ('class="verdict"','id="clusters"','id="neighbours"','id="map"','id="figures"','id="losses"','id="next"','<h2>The run')]
    assert places==sorted(places) and text.count('class="verdict"')==1
    assert default_title(ReportData(runs.a)).startswith(Path(runs.a.dls.path).name+', ')
    row = lambda e,p: dict(epoch=e, loss=1., lr=1e-3, instance_loss=3., chance=5., accuracy=.3, cluster_loss=1., entropy=2., n_clusters=8, spread=.9, spread_q=.9,
        rank=20., alignment=.5, uniformity=-2., clusters=8, teacher=.1, queue=1., clips=64, knn=p, knn_n=200, knn_untrained=.3)
    assert plain_sentence([row(0,.3),row(1,.6)])=='Training helped: the program told what kind a sound is in 60 of 100 cases, and in 30 of 100 before (checked on 200 labelled sounds).'
    assert plain_sentence([{**row(0,.6), 'knn_untrained':.6},{**row(1,.3), 'knn_untrained':.6}]).startswith('Training made it worse')
    assert plain_sentence([row(0,.30),row(1,.31)]).startswith('No gain can be shown')
    assert 'cannot be said' in plain_sentence([{k:v for k,v in row(e,.3).items() if 'knn' not in k} for e in (0,1)])
    assert 'not measured' in plain_sentence(None)
