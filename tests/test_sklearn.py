"`SoundEmbedder` among scikit-learn's"
from conftest import *
from slicer_fastai.export.sklearn import *
from sklearn.utils.estimator_checks import check_estimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.linear_model import RidgeClassifier
import joblib

#: scikit-learn's checks that cannot hold for sounds, and why
not_ours = dict(
    check_estimators_overwrite_params="it compares joblib's hashes of a parameter and of its deepcopy: a module's differ, fitted or not",
)

@pytest.fixture(scope='module')
def enc():
    set_seed(0)                                                                 # made before the seed of the test
    return AudioEncoder('audiontt', d=8, width=1, front=FrontEnd(duration=.2)).eval()

def test_scikit_learns_own_checks(enc):
    "All of `check_estimator`, a row of an array being a sound at 16 kHz"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        res = check_estimator(SoundEmbedder(enc, sr=16000), expected_failed_checks=not_ours, on_fail=None)
    assert joblib.hash(enc)!=joblib.hash(deepcopy(enc))                         # the reason given above
    bad = {o['check_name']:str(o['exception']) for o in res if o['status']=='failed'}
    assert not bad, bad
    assert sum(o['status']=='passed' for o in res)>=35

def test_grid_search_with_an_encoder_by_name(files, tmp_path, enc):
    folder = enc.save_pretrained(tmp_path/'enc')
    fs,y = files[::9],[i%2 for i in range(12)]
    pipe = make_pipeline(SoundEmbedder(str(folder)), RidgeClassifier())
    s = GridSearchCV(pipe, {'soundembedder__max_s':[.5,1.]}, cv=2, error_score='raise').fit(fs, y)
    close(s.best_estimator_[0].transform(fs[:3]), enc.embed(fs[:3], max_s=s.best_params_['soundembedder__max_s']))
    assert s.best_estimator_[0].encoder==str(folder)

def test_names_in_an_array_and_the_device(files, tmp_path, enc, monkeypatch):
    import slicer_fastai.export.sklearn as S
    x = np.array(list(map(str, files[:2])))
    for o in (x, x[:,None], x.astype(object)): close(SoundEmbedder(enc).fit_transform(o), enc.embed(files[:2]))
    monkeypatch.setattr(S, 'default_device', lambda: torch.device('meta'))
    assert next(SoundEmbedder(enc.save_pretrained(tmp_path/'e')).fit(x).encoder_.parameters()).is_meta
