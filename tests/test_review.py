"The page of review in a real browser: play, label by key, reload, save, read back"
from conftest import *
import soundfile as sf, time
from slicer_fastai.field.annotations import *
from slicer_fastai.interpret.review import *
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_pages import chrome, opened, plays, empty_pictures

hostile = '''=cmd "quoted" <script>alert(1)</script> ' & 🦉.wav'''.replace('/', '')

@pytest.fixture(scope='module')
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recordings')
    rng = np.random.default_rng(0)
    for name in ('plain.wav', hostile): sf.write(folder/name, rng.normal(size=16000*20)*.1, 16000)
    return Events(dict(file=[str(folder/o) for o in ('plain.wav',hostile,'plain.wav',hostile)], start=[2.,3.,8.,.1], end=[3.,3.5,9.5,.6],
                       label=['owl','=1+1','<b>fox</b>','owl'], score=[.9,.8,.55,.2]))

def press(chrome, *keys):
    body = chrome.find_element(By.TAG_NAME, 'body')
    for o in keys: body.send_keys(o)

def answers(chrome): return [o.text for o in chrome.find_elements(By.CSS_SELECTOR, '.answer')]

@pytest.mark.parametrize('width', [390,1280])
def test_review_page(chrome, events, tmp_path, width):
    page = events.review(tmp_path/'review.html')
    chrome.execute_cdp_cmd('Browser.setDownloadBehavior', dict(behavior='allow', downloadPath=str(tmp_path)))
    said,wide = opened(chrome, page.as_uri(), width)
    assert said==[] and wide<=0 and empty_pictures(chrome)==[]
    assert plays(chrome) is True
    assert answers(chrome)==['owl?','=1+1?','<b>fox</b>?','owl?']
    press(chrome, Keys.ENTER, 'n', '3', '1', 'u')                        # right; none; the third label; the first, and back
    labels = sorted({'owl','=1+1','<b>fox</b>'})
    assert answers(chrome)==['owl ✓','none of these ✓',f'{labels[2]} ✓','owl?']
    chrome.refresh()
    assert answers(chrome)==['owl ✓','none of these ✓',f'{labels[2]} ✓','owl?'], 'what was marked should survive a reload'
    assert '3 of 4 checked' in chrome.find_element(By.ID, 'count').text
    chrome.find_element(By.ID, 'save').click()
    saved = tmp_path/'review.csv'
    for _ in range(100):
        if saved.exists() and saved.stat().st_size: break
        time.sleep(.1)
    text = saved.read_text(encoding='utf8')
    assert not any(o.startswith('=') for line in text.splitlines() for o in line.split(',')), 'no cell that a spreadsheet would run'
    back = events.corrected(saved)
    assert back.label.tolist()==['owl','',labels[2],'owl'] and back.checked.tolist()==[True,True,True,False]
    assert back.file.tolist()==events.file.tolist()
    chrome.execute_script('localStorage.clear()')

def test_orders(chrome, events, tmp_path):
    opened(chrome, events.review(tmp_path/'r.html').as_uri(), 1280)
    chrome.find_element(By.CSS_SELECTOR, '#order option:nth-child(2)').click()       # uncertain: nearest to 0.5 first
    assert answers(chrome)[0]=='<b>fox</b>?'
    chrome.find_element(By.CSS_SELECTOR, '#show option:nth-child(3)').click()
    assert answers(chrome)==[]

def test_nothing_to_review(events, tmp_path):
    with pytest.raises(ValueError, match='lower threshold'): events[:0].review(tmp_path/'r.html')
    gone = events.assign(file=['/nowhere.wav',*events.file[1:]])
    with pytest.warns(UserWarning, match='1 places are left out.*nowhere'): gone.review(tmp_path/'r.html')

def test_another_review_is_refused(events, tmp_path):
    saved = tmp_path/'other.csv'
    pd.DataFrame(dict(id=['00000000'], label=['owl'], checked=['true'])).to_csv(saved, index=False)
    with pytest.raises(ValueError, match='not among these events'): events.corrected(saved)

def test_places_that_are_the_same_in_all_stay_apart(events, tmp_path):
    "Two recordings of one name in two folders, an event at the same time: the answer to the second was given to the first"
    files = []
    for folder in ('north','south'):
        (tmp_path/folder).mkdir()
        sf.write(tmp_path/folder/'night.wav', np.random.default_rng(0).normal(size=16000*5)*.1, 16000)
        files.append(str(tmp_path/folder/'night.wav'))
    twins = Events(dict(file=files, start=[1.,1.], end=[2.,2.], label=['owl','owl'], score=[.9,.8]))
    ids = place_ids(twins)
    assert len(set(ids))==2
    saved = tmp_path/'review.csv'
    pd.DataFrame(dict(id=ids, label=['owl','fox'], checked=['true','true'])).to_csv(saved, index=False)
    assert twins.corrected(saved).label.tolist()==['owl','fox']
    moved = twins.assign(file=[o.replace('north', 'east') for o in files])
    assert place_ids(moved)==ids, 'answers are read back when the recordings were moved'
