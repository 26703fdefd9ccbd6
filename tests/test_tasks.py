"Every task on a small tree in its public layout, and what it says of broken ones"
from conftest import *
from slicer_fastai.use.tasks import *
from slicer_fastai.use.tasks import print_tasks
from trees import all_trees
import pickle, shutil

@pytest.fixture(scope='session')
def trees(tmp_path_factory): return all_trees(tmp_path_factory.mktemp('data'))

def folder(trees, name): return trees/tasks[name].folder

#: clips of the parts (of the first fold), labels
want = {'commands1-12':(24,12,24,12), 'commands2-12':(24,12,24,12), 'commands2-35':(70,35,35,35), 'librispeech':(24,4,4,4), 'voxceleb1':(9,3,3,3),
        'voxforge':None, 'iemocap':(15,5,5,4), 'nsynth':(8,8,8,4), 'birds':(16,2,2,2), 'tut2018':(6,6,6,3),
        'urbansound8k':(32,4,4,2), 'esc50':(14,2,4,2), 'fsd50k':(9,3,12,3), 'gtzan':(9,3,3,3)}

@pytest.mark.parametrize('name', list(tasks))
def test_reads_the_public_layout(trees, name):
    t = tasks[name]; parts = t.splits(folder(trees, name))
    assert len(parts)==dict(urbansound8k=10, esc50=5).get(name, 1)
    for p in parts:
        fs = [{str(f) for f in p[k][0]} for k in ('train','valid','test')]
        assert all(len(p[k][0])==len(p[k][1]) for k in p) and all(Path(f.split('#')[0]).exists() for o in fs for f in o)
        assert not fs[0]&fs[1] and not fs[0]&fs[2] and not fs[1]&fs[2]
        if name in ('voxforge','esc50','urbansound8k','tut2018','commands2-35'):         # groups are kept together
            g = [set(p[k][2]) for k in ('train','valid')]
            assert name=='commands2-35' or not g[0]&g[1]
    n = tuple(len(parts[0][k][0]) for k in ('train','valid','test')),len({l for k in parts[0].values() for ls in k[1] for l in L(ls)})
    if name=='voxforge': assert sum(n[0])==60 and n[1]==6 and n[0][1]>=6 and n[0][2]>=6
    else: assert (*n[0],n[1])==want[name], n

def test_the_official_part_a_clip_is_in(trees):
    p = tasks['commands2-35'].splits(folder(trees, 'commands2-35'))[0]
    assert all(f.name[0]=='0' for f in p['valid'][0]) and all(f.name[0]=='1' for f in p['test'][0])
    p = tasks['commands2-12'].splits(folder(trees, 'commands2-12'))[0]
    assert {f.parts[-3] for f in p['test'][0]}=={'speech_commands_test_set_v0.02'} and Counter(p['train'][1])['_unknown_']==2
    p = tasks['iemocap'].splits(folder(trees, 'iemocap'))[0]
    assert all('Session5' in f.parts for f in p['test'][0]) and Counter(p['test'][1])['happy']==2 and 'fru' not in str(p['test'][1])
    p = tasks['voxceleb1'].splits(folder(trees, 'voxceleb1'))[0]
    assert {f.name for f in p['valid'][0]}=={'00004.wav'} and {f.name for f in p['test'][0]}=={'00005.wav'}
    for k,p in enumerate(tasks['esc50'].splits(folder(trees, 'esc50')), 1): assert all(f.name[0]==str(k) for f in p['test'][0])
    p = tasks['fsd50k'].splits(folder(trees, 'fsd50k'))[0]
    assert p['test'][1][0]==['Bark','Rain'] and all('eval_audio' in str(f) for f in p['test'][0])

#: what is taken away → what the error says
broken = [
    ('commands1-12','speech_commands_test_set_v0.01','speech_commands_test_set_v0.01 beside'),
    ('commands2-12','speech_commands_v0.02/_background_noise_','_background_noise_'),
    ('commands2-35','speech_commands_v0.02/visual','lacks visual'),
    ('commands2-35','speech_commands_v0.02/testing_list.txt','testing_list.txt'),
    ('commands2-35','speech_commands_v0.02/yes/0a00_nohash_0.wav','1 listed files, e.g. yes/0a00_nohash_0.wav'),
    ('librispeech','LibriSpeech/train-clean-100/27','lacks 27'),
    ('librispeech','LibriSpeech/SPEAKERS.TXT','SPEAKERS.TXT'),
    ('voxceleb1','VoxCeleb1/iden_split.txt','iden_split.txt'),
    ('voxceleb1','VoxCeleb1/wav/id10270','5 of 15 files'),
    ('voxforge','voxforge/it','it/Trunk/Audio/Main/16kHz_16bit'),
    ('iemocap','IEMOCAP_full_release/Session3','Session3/dialog/EmoEvaluation'),
    ('iemocap','IEMOCAP_full_release/Session5/sentences/wav/Ses05F_impro01','5 of 25 files'),
    ('nsynth','nsynth/nsynth-valid/examples.json','nsynth-valid/examples.json'),
    ('nsynth','nsynth/nsynth-test/audio/bass_acoustic_000-060-100.wav','1 of 8 files'),
    ('birds','birds/warblrb10k','warblrb10k'),
    ('birds','birds/ff1010bird/ff1010bird_metadata_2018.csv','metadata.csv'),
    ('tut2018','TUT-urban-acoustic-scenes-2018-development/evaluation_setup','fold1_train.txt'),
    ('tut2018','TUT-urban-acoustic-scenes-2018-development/audio','12 of 12 files'),
    ('urbansound8k','UrbanSound8K/audio/fold7','4 of 40 files'),
    ('urbansound8k','UrbanSound8K/metadata','UrbanSound8K.csv'),
    ('esc50','ESC-50-master/audio','20 of 20 files'),
    ('fsd50k','FSD50K/FSD50K.ground_truth/vocabulary.csv','vocabulary.csv'),
    ('fsd50k','FSD50K/FSD50K.eval_audio','12 of 12 files'),
    ('gtzan','GTZAN/valid_filtered.txt','valid_filtered.txt'),
    ('gtzan','GTZAN/genres/jazz','3 of 9 files'),
    ('gtzan','GTZAN/genres','genres'),
]

@pytest.mark.parametrize('name,gone,says', broken)
def test_says_what_is_missing(trees, name, gone, says):
    away = trees/'.away'; os.rename(trees/gone, away)
    try:
        with pytest.raises(MissingData) as e: tasks[name].splits(folder(trees, name))
        assert says in str(e.value).split('How to get it')[0] and tasks[name].get in str(e.value), str(e.value)
    finally: os.rename(away, trees/gone)

def test_folds_and_columns_that_are_missing(trees):
    fn = trees/'ESC-50-master/meta/esc50.csv'; old = fn.read_text()
    try:
        fn.write_text('\n'.join(l for l in old.splitlines() if ',3,' not in l))
        with pytest.raises(MissingData, match='lacks fold 3'): tasks['esc50'].splits(fn.parents[1])
        fn.write_text(old.replace('category', 'kind', 1))
        with pytest.raises(MissingData, match='column category of meta/esc50.csv'): tasks['esc50'].splits(fn.parents[1])
    finally: fn.write_text(old)
    for n,t in tasks.items():
        with pytest.raises(MissingData, match='lacks the folder itself'): t.splits(trees/'nowhere')

def test_dataloaders_with_one_and_with_several_labels(trees):
    "Batches of the task's seconds, three loaders, and a learner that can validate on the test part"
    dls = tasks['commands2-12'].dataloaders(folder(trees, 'commands2-12'), bs=16, num_workers=0, device='cpu', front=FrontEnd(n_mels=32))
    x,y = dls.one_batch()
    assert x.shape==(16,1,32,101) and len(dls.vocab)==12 and [len(o.items) for o in dls.loaders]==[24,12,24]
    clf = audio_learner(dls, AudioEncoder('audiontt', d=8, width=1, front=dls.front), probe=False)
    assert np.isfinite(quiet(clf, clf.validate, 2)).all()
    dls = tasks['fsd50k'].dataloaders(folder(trees, 'fsd50k'), bs=4, num_workers=0, device='cpu', front=FrontEnd(n_mels=32, duration=1.))
    x,y = dls.one_batch()
    assert y.shape==(4,3) and dls.front.duration==30 and set(dls.vocab)=={'Bark','Rain','Speech'}
    dls = tasks['esc50'].dataloaders(folder(trees, 'esc50'), fold=3, num_workers=0, device='cpu')
    assert all(str(f[0].name).startswith('4-') for f in dls[2].items)

def test_a_cut_reads_like_a_file(trees):
    fn = next((trees/'speech_commands_v0.02/_background_noise_').glob('*.wav'))
    c = pickle.loads(pickle.dumps(Cut(fn, 1.5))); x = read_window(fn, None)
    close(read_window(c, None), x[24000:40000]); close(read_window(c, .5, pos=1), x[32000:40000])
    e = AudioEncoder('audiontt', d=8, width=1).eval()
    close(e.embed([c]), e.embed([x[24000:40000]], sr=16000), 1e-4)

def test_commands_to_get_them(capsys):
    print_tasks(); print_tasks(['voxceleb1'])
    out = capsys.readouterr().out
    assert all(o.title[:20] in out for o in tasks.values()) and 'sign the form' in out
