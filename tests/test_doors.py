"The doors a new user comes through first"
from conftest import *
from fastai.callback.fp16 import MixedPrecision
import ast, importlib, subprocess
from graphlib import TopologicalSorter

def run(code, *args):
    "What a fresh process prints"
    r = subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-2000:]
    return r.stdout,r.stderr

def test_star_import_shadows_nothing_of_fastais():
    mine = importlib.import_module('slicer_fastai.all')
    theirs = {}
    exec('from fastai.basics import *\nfrom fastai.data.all import *\nfrom fastai.callback.all import *', theirs)
    assert not [k for k,v in theirs.items() if k[0]!='_' and getattr(mine, k, None) is not v]

def test_star_import_brings_few_names_of_ours():
    "What users meet with `import *`: at most 150; helpers are imported from their modules"
    import slicer_fastai.all as everything
    ours = [n for n,o in vars(everything).items() if not n.startswith('_') and str(getattr(o, '__module__', '')).startswith('slicer_fastai')]
    assert len(ours)<=150, len(ours)

def test_star_import_is_quiet_and_light():
    "No warning, and what is rarely needed not imported: beyond what fastai and timm bring along"
    out,err = run('''
import sys
import slicer_fastai
from fastai.basics import *; from fastai.data.all import *; from fastai.callback.all import *
import timm
before = set(sys.modules)
from slicer_fastai.all import *
print(sorted({m.split('.')[0] for m in set(sys.modules)-before}), [m for m in ('scipy.signal','sklearn.manifold','librosa') if m in set(sys.modules)-before])
''')
    assert err=='', err
    assert out.strip().endswith('[]'), out

def test_no_name_of_fastaudio_below_its_room():
    for f in Path(importlib.import_module('slicer_fastai').__file__).parent.rglob('*.py'):
        if f.stem not in ('fastaudio','_modidx'): assert 'import slicer_fastai.fastaudio' not in f.read_text() and 'from slicer_fastai.fastaudio' not in f.read_text(), f

@pytest.mark.parametrize('kw', [dict(loss_func=CrossEntropyLossFlat()), dict(model=nn.Linear(1,1))])
def test_arguments_that_make_no_sense(loaders, kw):
    with pytest.raises(ValueError, match=f'^{next(iter(kw))}: SlicerLearner makes its own'): SlicerLearner(loaders(), arch_kwargs=encoder_kw, **kw)

def test_misspelt_argument_names_its_neighbours(loaders):
    with pytest.raises(TypeError, match='momentm.*momentum'): SlicerLearner(loaders(), arch_kwargs=encoder_kw, momentm=.9)

def test_signature_is_complete():
    "A notebook shows every argument: the views', the model's and fastai's, each with its default"
    import inspect
    names = set(inspect.signature(SlicerLearner).parameters)
    for f,but in ((slicer_views,{'norm','n_mels'}), (SlicerModel,{'encoder','views'}), (Learner,{'model','loss_func'})):
        assert set(inspect.signature(f).parameters)-but<=names, set(inspect.signature(f).parameters)-but-names

floors = 'core audio augment models data use field train interpret export cli'.split()        # a package imports from itself or from those before it
first_names = {'export':floors[:6]}                                                     # but export knows neither training nor pictures

def imported(fn):
    "Modules of this library that a module imports, as (package, module)"
    for o in ast.walk(ast.parse(fn.read_text())):
        if isinstance(o, ast.ImportFrom) and o.level==2 and o.module and '.' in o.module: yield tuple(o.module.split('.'))
        if isinstance(o, ast.ImportFrom) and o.level==1 and o.module: yield fn.parent.name,o.module

def test_packages_import_upwards_only():
    "A module imports from packages before its own and from its own, without circles"
    root,edges = Path(importlib.import_module('slicer_fastai').__file__).parent,{}
    for fn in root.glob('*/*.py'):
        here = fn.parent.name
        allowed = [*first_names.get(here, floors[:floors.index(here)]), here]
        for package,module in imported(fn):
            assert package in allowed, f'{here}/{fn.name} imports {package}.{module}'
            edges.setdefault((here,fn.stem), set()).add((package,module))
    assert len(edges)>20
    TopologicalSorter(edges).prepare()                                                  # CycleError names a circle

def test_a_front_end_of_a_notebook_comes_back_from_export():
    "cloudpickle rebuilds a class of `__main__` bare, then gives it its attributes: 'logmel' must stay what it is"
    import cloudpickle
    class Own(FrontEnd): kind = 'own'
    Own.__module__ = '__main__'
    b = cloudpickle.dumps(Own())
    del FrontEnd.kinds['own']
    f = cloudpickle.loads(b)
    assert f.kind=='own' and FrontEnd.kinds['logmel'] is FrontEnd and FrontEnd.from_cfg(FrontEnd().cfg)==FrontEnd()
    FrontEnd.kinds.pop('own', None)
