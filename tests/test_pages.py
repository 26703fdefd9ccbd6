"The pages that people open: the site, a report, a comparison; links checked, then seen by a real browser"
import importlib.util, shutil
import pytest
from conftest import *
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from functools import partial
from http.server import ThreadingHTTPServer, SimpleHTTPRequestHandler
import threading

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
def make():
    spec = importlib.util.spec_from_file_location('site_maker', root/'.ci/site.py')
    m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
    return m

@pytest.fixture(scope='module')
def site(make, tmp_path_factory):
    dest,warned = make.build(tmp_path_factory.mktemp('site')/'_site')
    return SimpleNamespace(path=dest, warned=warned)

@pytest.fixture(scope='module')
def url(site):
    "The site as a server shows it"
    s = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site.path)))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown(); s.server_close()

def test_every_link_of_the_site_leads_somewhere(make, site):
    assert not site.warned and not list(make.faults(site.path))
    pages = {str(o.relative_to(site.path)) for o in site.path.rglob('*.html')}
    assert pages=={str(o.relative_to(root/'nbs').with_suffix('.html')) for o in (root/'nbs').rglob('*.ipynb')}|{'CONTRIBUTING.html'}
    index = (site.path/'index.html').read_text()
    assert 'learns from sound without labels' in index                    # what stands below a title in the same cell
    assert not [o for o in pages if f'href="{o}"' not in index and f'href="./{o}"' not in index]       # each in the sidebar

def test_dead_links_are_found(make, tmp_path):
    (tmp_path/'a.html').write_text('<a href="b.html">x</a><a href="#no">x</a><a href="#yes">x</a><p id="yes"></p><img src="c.png"><audio></audio>')
    assert len(list(make.faults(tmp_path)))==4

def test_the_site_in_a_browser(site, url, chrome):
    pages = [site.path/'index.html', site.path/'10_augment.html', site.path/'00_audio.html', *site.path.glob('tutorials/glossary.html')]
    for p in pages:
        for width in (390,1280):
            said,wide = opened(chrome, f'{url}/{p.relative_to(site.path)}', width)
            assert not said and wide<=0, (p, width, said, wide)
        assert not empty_pictures(chrome)
    with_player = next(o for o in sorted(site.path.rglob('*.html')) if '<audio' in o.read_text())
    opened(chrome, f'{url}/{with_player.relative_to(site.path)}', 1280)
    assert plays(chrome) is True
    opened(chrome, f'{url}/index.html', 1280)
    box = WebDriverWait(chrome, 20).until(lambda d: d.find_element(By.CSS_SELECTOR, 'input[type=search],#quarto-search input'))
    box.send_keys('KMix')
    found = WebDriverWait(chrome, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, 'a[href*="10_augment.html#KMix"]'))
    assert found

@pytest.fixture
def trained(tiny, loaders, files):
    half = lambda i: (files[i::2], files[i::2].map(parent_label))
    def make(lr):
        l = tiny(loaders()); quiet(l, l.fit, 2, lr, cbs=[Health(), KNNProbe(half(0), half(1), max_n=60)])
        return l
    return make

def test_report_and_comparison_in_a_browser(trained, files, tmp_path, chrome):
    evil = '<script>alert(1)</script>"&'
    a,b = trained(1e-3),trained(1e-5)
    one = a.report(tmp_path/'one.html', title=evil, files=files[:12], labels=lambda f: evil)
    two = b.report(tmp_path/'two.html', max_n=6)
    both = compare(one, two, a, fn=tmp_path/'both.html', names=[evil,'low lr','the same'])
    for fn in (one,two,both):
        text = fn.read_text()
        assert fn.stat().st_size<5e6 and evil not in text and '<script>alert' not in text
        for width in (390,1280):
            said,wide = opened(chrome, f'file://{fn}', width)
            assert not said and wide<=0, (fn.name, width, said, wide)
        assert not empty_pictures(chrome)
    opened(chrome, f'file://{one}', 390)
    assert plays(chrome) is True
    words = chrome.find_element(By.TAG_NAME, 'body').text
    for o in ('What to try next','untrained (95 %)','largest lr','seed','versions', evil): assert o in words
    opened(chrome, f'file://{both}', 390)
    words = chrome.find_element(By.TAG_NAME, 'body').text
    assert "['" not in words
    assert 'cannot be told apart' in words or 'is better' in words
    assert 'largest lr' in words and a.diagnose() in words and b.diagnose() in words

def test_a_record_survives_the_page(trained, tmp_path):
    "compare reads from a report what it would read from the learner; a page without figures says so"
    from slicer_fastai.report import _read_run
    l = trained(1e-3)
    page,learner = _read_run(l.report(tmp_path/'report.html', max_n=4)),_read_run(l)
    for k in ('health','gains','log','last'): assert page[k]==learner[k], k
    assert _read_run(tmp_path)==page
    (tmp_path/'x.html').write_text('<p>no figures</p>')
    with pytest.raises(ValueError, match='holds no figures'): compare(tmp_path, tmp_path/'x.html')
    with pytest.raises(ValueError, match='two are needed'): compare(l)

from hypothesis import given, strategies as st
@given(st.floats(0,1), st.floats(0,1), st.integers(10,400), st.floats(-.5,4))
def test_health_and_gain_never_contradict(a, b, n, below):
    "The words on the probe follow one rule, whatever the curves"
    row = lambda e,p,l: dict(epoch=e, loss=l, lr=1e-3, instance_loss=5-l, chance=5., accuracy=.3, cluster_loss=1., entropy=2., n_clusters=8,
        spread=.9, spread_q=.9, rank=20., alignment=.5, uniformity=-2., clusters=8, teacher=.1, queue=1., clips=64, knn=p, knn_n=n, knn_untrained=a)
    from slicer_fastai.report import _gains,_gain_words
    log = [row(0,a,0.),row(1,(a+b)/2,below/2),row(2,b,below)]
    health,words = health_sentence(log),_gain_words(_gains(log))
    assert ('better than the' in health)==('better than before' in words)
    assert ('worse than the' in health)==('made it worse' in words)
    assert ('nothing gained over' in health)==('Nothing was gained' in words)
