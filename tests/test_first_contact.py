"The first contact: the lines as a user types them, on a few sounds and with a narrow AudioNTT, so that it takes seconds"
from conftest import *
import importlib, shutil

LINES = '''
path  = synth_sounds()                          # or any folder of audio files
dls   = SlicerDataLoaders.from_folder(path)     # unlabelled; valid_pct=0.1, bs=64, sr=16000, duration=0.95
dls.show_batch()                                # log-mels, with players in a notebook
learn = SlicerLearner(dls, 'audiontt')          # or 'resnet18', 'convnext_atto', any timm name or nn.Module
learn.show_views()                              # a clip, what k-mix mixed in, its two views
learn.lr_find(); learn.fit_one_cycle(10, 1e-3)  # columns: instance_loss, cluster_loss, accuracy of finding the clip, chance
learn.plot_clusters(); learn.plot_map(); learn.report()
enc   = learn.encoder; enc.save_pretrained('my-encoder')      # safetensors + config; AudioEncoder.from_pretrained('my-encoder')
enc.index(path).search('a.wav', k=5)            # vectors of a folder, neighbours to hear
clf   = audio_learner(labelled_dls, enc); clf.fine_tune(5); clf.predict('b.wav')
'''

def test_first_contact(sounds, tmp_path, monkeypatch):
    import soundfile as sf
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AudioNTT.__init__, '__defaults__', (64, 64, 1, 8, .3, 3, False))      # d, n_mels, in_chans, width, drop, blocks, local
    monkeypatch.setattr(defaults, 'cpus', 0)                                       # 24 files: starting workers each epoch would be most of the time
    few = tmp_path/'sounds'
    for f in get_audio_files(sounds)[:24]: (few/f.parent.name).mkdir(parents=True, exist_ok=True); shutil.copy(f, few/f.parent.name)
    files = get_audio_files(few)
    for n,f in zip(('a.wav','b.wav'), files): sf.write(n, *sf.read(f))
    names = dict(vars(importlib.import_module('slicer_fastai.all')), synth_sounds=lambda: few)
    names['labelled_dls'] = SlicerDataLoaders.from_folder(few, label_func=parent_label, valid_idx=range(0, 24, 3), bs=8, num_workers=0)
    for line in LINES.strip().split('\n'): exec(line, names); plt.close('all')
    assert (tmp_path/'my-encoder'/'model.safetensors').exists() and names['learn'].recorder.values

FIELD = '''
table  = read_annotations('labels.csv')                                # Raven, Audacity, csv …: file, start, end, label
det    = enc.detector(table)
events = det.detect('recordings')                                      # file, start, end, label, score
events.review('review.html')                                           # listen and correct in a browser
det    = det.learn_from(events.corrected('review.csv')); events.to_raven('events')
'''

FINE_TUNED = '''
table  = read_annotations('labels.csv')                                # Raven, Audacity, csv …: file, start, end, label
det    = audio_learner(SlicerDataLoaders.from_annotations('recordings', table), enc); det.fine_tune(5)
events = det.detect('recordings')                                      # file, start, end, label, score
events.review('review.html')                                           # listen and correct in a browser
det    = det.learn_from(events.corrected('review.csv')); events.to_raven('events')
again  = det.detect('recordings')
'''

@pytest.mark.parametrize('lines', [FIELD,FINE_TUNED])
def test_field_recordings(lines, tmp_path, monkeypatch):
    "From annotated recordings to events that somebody listened to, by a detector of seconds and by a fine-tuned learner"
    from slicer_fastai.interpret.review import place_ids
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(defaults, 'cpus', 0)
    path = synth_recordings(n=3, seconds=20., each=3, path=tmp_path/'recordings')
    shutil.move(path/'events.csv', 'labels.csv')
    table = pd.read_csv('labels.csv')
    table.assign(file='recordings/'+table.file).to_csv('labels.csv', index=False)
    names = dict(vars(importlib.import_module('slicer_fastai.all')), enc=AudioEncoder.from_pretrained('slicer-small'))
    for line in lines.strip().split('\n'):
        if 'review.csv' in line:                                       # somebody listened: the first is right, the second is none of these
            events = names['events']
            answers = pd.DataFrame(dict(id=place_ids(events), label=events.label, checked='false'))
            answers.loc[0, 'checked'] = 'true'
            answers.loc[1, ['label','checked']] = ['','true']
            answers.to_csv('review.csv', index=False)
        exec(line, names)
        plt.close('all')
    assert len(names['events'])>=9 and Path('review.html').exists() and len(list(Path('events').iterdir()))==3
    det,right,wrong = names['det'],events.iloc[0],events.iloc[1]
    def taught(place):
        "How many windows around the middle of a place the detector learned from, and how many of them by class"
        middle = (place.start+place.end-det.encoder.front.duration)/2
        near = det.training[(det.training.file==place.file) & (abs(det.training.start-middle)<.2)]
        return len(near),near[det.labels].sum()
    n,labels = taught(right)
    assert n and labels[right.label]==n
    n,labels = taught(wrong)
    assert n and not labels.any()
    assert names['again' if 'again' in lines else 'events'].label.isin(det.labels).all()
