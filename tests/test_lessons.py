"Lessons as pages: what is in them as they are stored, without running them"
import json, re
from pathlib import Path
import pytest
import matplotlib.pyplot as plt

pages = sorted((Path(__file__).parents[1]/'nbs'/'tutorials').glob('lesson*.ipynb'))
optional = [pages[0].parent/'other_losses.ipynb']

def shown(nb, kind): return [''.join(o['data'][kind]) for c in nb['cells'] for o in c.get('outputs', []) if kind in o.get('data', {})]

@pytest.mark.parametrize('fn', pages+optional, ids=lambda f: f.stem)
def test_lesson_can_be_heard_seen_and_worked(fn):
    nb,size = json.loads(fn.read_text()),fn.stat().st_size
    html,prose = '\n'.join(shown(nb, 'text/html')),'\n'.join(''.join(c['source']) for c in nb['cells'] if c['cell_type']=='markdown')
    players = re.findall(r'<audio\s', html); sound = sum(map(len, re.findall(r'data:audio/\w+;base64,([A-Za-z0-9+/=]+)', html)))
    assert len(players)>=3 and sound<=300_000, (len(players), sound)
    assert len(shown(nb, 'image/jpeg'))>=3 and size<=3_000_000, size
    asked,answers = re.findall(r'^\*\*\d\.\*\* ', prose, re.M),re.findall(r'<details>\s*<summary>.*?</details>', prose, re.S)
    assert len(asked)==len(answers)>=2
    assert len(re.findall(r'^\*\*To take away:\*\* \S', prose, re.M))==1
    for link in re.findall(r'\]\(([\w./]+\.ipynb)\)', prose): assert (fn.parent/link).exists(), link

def test_lessons_are_numbered(): assert len(pages)>=6 and [f.stem[:7] for f in pages]==[f'lesson{i}' for i in range(1,len(pages)+1)]

@pytest.mark.parametrize('fn', pages[:6]+optional, ids=lambda f: f.stem)
def test_what_is_taught_is_free_of_checks(fn):
    "Assertions are hidden below, lines are as wide as a page; goals at the top, something to build and to read at the end"
    nb = json.loads(fn.read_text())
    code = [''.join(c['source']) for c in nb['cells'] if c['cell_type']=='code']
    for cell in code:
        if cell.startswith('#| hide'): continue
        assert not re.search(r'^\s*(assert|test_\w+\()|; assert', cell, re.M), cell
        assert max(map(len, cell.split('\n')))<=120 and 'plt.rcParams' not in cell, cell
        assert not re.search(r'^[^#\'"]*;[^#]*\S', cell, re.M), cell                       # one statement a line; a last ; hides an output
    prose = '\n'.join(''.join(c['source']) for c in nb['cells'] if c['cell_type']=='markdown')
    for part in ('**After this lesson** you can','## Build something','**Further reading**:'): assert prose.count(part)==1, part

def test_the_course_leads_to_every_lesson():
    "Each with the seconds that it takes"
    course = (pages[0].parent/'course.ipynb').read_text()
    for fn in pages+optional: assert fn.name in course, fn.name
    assert not re.search(r'L\d s', course)

def test_rooms_open_with_pictures_that_exist():
    nbs = Path(__file__).parents[1]/'nbs'
    for fn in nbs.glob('*/*.ipynb'):
        for img in re.findall(r'!\[[^\]]+\]\((\.\./images/[^)]+)\)', fn.read_text()): assert (fn.parent/img).exists(), (fn.name, img)

def test_sliders_leave_a_picture(monkeypatch):
    "A page without a kernel knows the sliders' type and cannot draw them: their picture must be an output of its own"
    pytest.importorskip('ipywidgets')
    import slicer_fastai.interpret.views as m
    got = []; monkeypatch.setattr(m, 'display', lambda o, **kw: got.append((o, kw)))
    m.sliders(lambda a: None, lambda a: plt.figure().add_subplot().plot([0,a]), a=1)._ipython_display_()
    (page,_),(sliders,kw) = got
    assert 'src="data:image/jpeg;base64,/9j/' in page.data and kw==dict(raw=True)
    assert 'application/vnd.jupyter.widget-view+json' in sliders and 'image/jpeg' not in sliders
