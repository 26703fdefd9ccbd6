"The hub, with two functions of huggingface_hub replaced by a folder"
from conftest import *
from slicer_fastai.models.encoder import ConfigError
import ast, huggingface_hub, shutil, slicer_fastai

@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A folder in the place of the hub; what was asked of it"
    site,asked = tmp_path/'hub',[]
    def download(repo_id, **kw):
        asked.append((repo_id, kw)); dest = tmp_path/f'cache{len(asked)}'
        if not (site/repo_id).exists(): raise OSError('no such repository')
        shutil.copytree(site/repo_id, dest, ignore=lambda d,fs: [f for f in fs if f not in kw['allow_patterns']])
        return str(dest)
    def upload(repo_id, folder_path, **kw): asked.append((repo_id, kw)); shutil.copytree(folder_path, site/repo_id, dirs_exist_ok=True)
    create = lambda *a, **kw: asked.append((a, kw))
    for k,f in dict(snapshot_download=download, upload_folder=upload, create_repo=create).items(): monkeypatch.setattr(huggingface_hub, k, f)
    site.mkdir()
    return SimpleNamespace(site=site, asked=asked)

@pytest.fixture(scope='module')
def enc(): return AudioEncoder('audiontt', d=8, width=1).eval()

def test_there_and_back(hub, enc):
    "Weights bit for bit, the revision handed on, private until opened"
    enc.push_to_hub('me/e', license='mit', revision='dev', recipe='said so')
    assert hub.asked[0][1]['private'] and hub.asked[1][1]['revision']=='dev'
    back = AudioEncoder.from_pretrained('me/e', revision='abc', local_files_only=True)
    assert hub.asked[2][1]==dict(revision='abc', allow_patterns=['config.json','model.safetensors'], local_files_only=True)
    assert not differ(enc.state_dict(), back.state_dict())
    assert 'said so' in (hub.site/'me/e/README.md').read_text()

def test_hostile_settings_from_the_hub_are_refused_by_name(hub, enc):
    f = enc.save_pretrained(hub.site/'me/h')/'config.json'; cfg = json.loads(f.read_text())
    for k,v in dict(arch='hf-hub:x/y', checkpoint='a.pth', in_chans=10**12, layers='rm -rf').items():
        f.write_text(json.dumps({**cfg, k:v}))
        with pytest.raises(ConfigError, match=k): AudioEncoder.from_pretrained('me/h')

def test_nothing_is_fetched_for_a_folder_or_a_strange_name(hub, enc, tmp_path, monkeypatch):
    enc.save_pretrained(tmp_path/'me/e'); monkeypatch.chdir(tmp_path)
    AudioEncoder.from_pretrained('me/e'); AudioEncoder.from_pretrained('slicer-small')
    for bad in ('../x','a/b/c','nothing','http://a/b'):
        with pytest.raises(FileNotFoundError): AudioEncoder.from_pretrained(bad)
    assert not hub.asked

def test_card_of_a_learner(tiny, enc):
    "Recipe, clips seen, probes, and a cell that would break the table"
    learn = tiny(); quiet(learn, learn.fit, 1)
    card = learn.encoder.model_card('me/e', recipe=learn, results={'a|b':.5}, license='mit')
    n = len(learn.recorder.losses)
    assert n==4 and f'({n} steps)' in card.content and 'training clips | 33' in card.content and 'a\\|b' in card.content
    assert 'To be chosen' in enc.model_card().content
    with pytest.raises(ValueError, match='license'): enc.push_to_hub('me/e')

def patches(fn):
    "(class, method) of what a module patches into classes, and of the methods that its own classes define"
    for o in ast.parse(fn.read_text()).body:
        if isinstance(o, ast.ClassDef):
            for m in o.body:
                setter = isinstance(m, ast.FunctionDef) and any('.setter' in ast.unparse(d) for d in m.decorator_list)
                if isinstance(m, ast.FunctionDef) and not setter: yield o.name,m.name
        if isinstance(o, ast.FunctionDef) and any('patch' in ast.unparse(d) for d in o.decorator_list):
            yield ast.unparse(o.args.args[0].annotation),o.name

def test_a_patch_adds_a_method_and_replaces_none():
    "What a class does must not depend on which modules have been imported"
    where = {}
    for fn in Path(slicer_fastai.__file__).parent.rglob('*.py'):
        if 'slicer_fastai/_modidx' in str(fn): continue
        for key in patches(fn): where.setdefault(key, []).append(fn.name)
    assert ('AudioEncoder','from_pretrained') in where
    assert not {k:v for k,v in where.items() if len(v)>1}

def test_a_card_shows_names_and_acts_on_none():
    "Names, labels and figures are text in Markdown, whatever they hold; the code of the card stays code"
    enc = AudioEncoder('audiontt', d=16, width=4)
    results = {'<script>alert(1)</script>':'[a](http://x) | `b`', 'owl\x1b[2J\nnext':.5}
    card = str(enc.model_card("me/x'); import os #", results=results, data='of <img src=x onerror=y> and [a page](http://x)',
                              limits='<b>none</b>', recipe={'<i>':'|'}))
    assert '<script' not in card and '<img' not in card and '<b>' not in card and '<i>' not in card
    assert '\x1b' not in card and r'[a]\(http://x) \| \`b\`' in card
    assert '[a page](http://x)' in card
    line = next(o for o in card.splitlines() if 'from_pretrained(' in o)
    import ast
    assert ast.parse(line).body[0].value.args[0].value=="me/x'); import os #"
