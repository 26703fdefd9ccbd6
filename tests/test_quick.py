"Detectors from an index and from fine-tuning"
import pytest, soundfile as sf
from conftest import *
from slicer_fastai.field.detect import reference

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    path = synth_recordings(n=5, seconds=40, each=3, path=tmp_path_factory.mktemp('scenes'))
    return path,read_annotations(path/'events.csv', verbose=False)

@pytest.fixture(scope='module')
def index(scenes): return AudioEncoder.from_pretrained('slicer-small').index(scenes[0], hop=.5)

def test_a_classifier_from_an_index_finds_events(scenes, index):
    "Learned from three recordings, asked about two others"
    path,annotated = scenes; files = sorted(set(annotated.file)); train = annotated[annotated.file.isin(files[:3])]
    d = index.classifier(train); assert set(d.labels)==set(annotated.label) and d.how['recordings']==3
    r = evaluate_events(d.detect(files[3:], threshold=.05), annotated[annotated.file.isin(files[3:])], recordings=files[3:])
    assert r.table.average_precision['mean']>.6, r.table

def test_what_it_learns_from(scenes, index):
    "Windows of which half is an event, and background that touches none, of the same recordings only; a checked place is background"
    path,annotated = scenes; one = annotated[annotated.file==annotated.file[0]]
    d = index.classifier(one, background=10); t = d.training; assert set(t.file)=={one.file[0]} and len(t)-10==t[d.labels].any(axis=1).sum()
    for o in t.itertuples():
        shared = np.minimum(o.start+.95, one.end)-np.maximum(o.start, one.start)
        half = shared>=np.minimum(.95, one.end-one.start)/2-1e-4
        assert {l for l in d.labels if getattr(o, l)}==set(one.label[half]) and (half.any() or (shared<1e-4).all())
    own = np.flatnonzero(index.file_of==index.files.index(one.file[0]))      # one stretch of 40 s: all its windows say what it sounds like
    mean,spread = reference(index.vectors[own], index.starts[own], .95, d.usual)
    for o,v in zip(t.itertuples(), d.vectors):
        heard = index.vectors[own[np.isclose(index.starts[own], o.start)]][0]
        np.testing.assert_allclose(v, (heard-mean)/spread, rtol=1e-4, atol=1e-4)
    none = pd.DataFrame(dict(file=one.file[0], start=[0.], end=[1.], label=['']))
    assert len(index.classifier(pd.concat([one, Events(none)], ignore_index=True), background=10).training)>len(t)

def test_what_cannot_be_learned_is_told(scenes, index):
    path,annotated = scenes
    far = annotated.assign(file='elsewhere.wav')
    with pytest.warns(UserWarning, match='3 of .*elsewhere.wav.*index.add'): index.classifier(pd.concat([annotated, far[:3]], ignore_index=True))
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='no labelled place'): index.classifier(far)
    with pytest.raises(ValueError, match='not places'): index.classifier(pd.DataFrame(dict(file=annotated.file, label='x')))
    with pytest.raises(ValueError, match='level'): index.encoder.index(annotated.file[0], level='clip').classifier(annotated)

@pytest.fixture(scope='module')
def learner(scenes, tmp_path_factory):
    "Of several labels at once, some windows with none"
    path,annotated = scenes; items,labels = [],[]
    for f in sorted(set(annotated.file)):
        own = annotated[annotated.file==f]
        for start in np.arange(0, 39, .5):
            shared = np.minimum(start+.95, own.end)-np.maximum(start, own.start)
            hit = set(own.label[shared>=.4])
            if hit or start%3==0: items.append(Clip(f, start=float(start), seconds=.95)); labels.append(sorted(hit))
    set_seed(0)
    block = DataBlock((AudioBlock(front=AudioEncoder.from_pretrained('slicer-small').front), MultiCategoryBlock()), splitter=RandomSplitter(seed=0), getters=[ItemGetter(0), ItemGetter(1)])
    dls = SlicerDataLoaders.from_dblock(block, L(zip(items, labels)), bs=16, num_workers=0, device='cpu')
    return audio_learner(dls, 'slicer-small')

def test_a_learner_of_several_labels_is_a_detector(scenes, learner, tmp_path):
    "Its scores of a window are those of predict; background has none; it detects, and may be saved"
    path,annotated = scenes; f = annotated.file[0]
    scores = learner.scores([f], progress=False); at = scores.iloc[7]; d = learner.detector()
    p = learner.predict(Clip(f, start=float(at.start), seconds=.95)); np.testing.assert_allclose(at[d.labels].to_numpy(float), p[2], atol=1e-4)
    events = learner.detect([f], threshold=.5); assert len(events) and set(events.label)<=set(annotated.label)
    from slicer_fastai.field.detect import Detector
    back = Detector.load(d.save(tmp_path/'d')); np.testing.assert_allclose(back.scores([f], progress=False)[d.labels], scores[d.labels], atol=1e-5)

def test_one_label_is_no_detector(files, tmp_path):
    "Its softmax names a class whatever it hears: refused, with the remedy; and told where a long recording gets one answer"
    dls = SlicerDataLoaders.from_lists(tmp_path, files, files.map(parent_label), valid_pct=.4, bs=16, num_workers=0, device='cpu')
    l = audio_learner(dls, AudioEncoder('audiontt', **encoder_kw).eval())
    for f in (l.detector, lambda: l.detect(files[:1]), lambda: l.scores(files[:1])):
        with pytest.raises(ValueError, match='from_annotations.*background'): f()
    sf.write(tmp_path/'long.wav', np.random.default_rng(0).normal(size=31*16000)*.1, 16000)
    with pytest.warns(UserWarning, match='long.wav, 0:00:31.0.*from_annotations'): l.predict(tmp_path/'long.wav')
    with warnings.catch_warnings(): warnings.simplefilter('error'); l.predict(files[0])
