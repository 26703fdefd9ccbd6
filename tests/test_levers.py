"The bench of levers: every setting trains a few steps, and its encoder is judged"
from conftest import *
from benchmarks import levers
from slicer_fastai.audio.synth import synth_sounds

def test_every_lever_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(levers.nets, 'tiny', ('audiontt',dict(d=16, width=4)))
    pack = pack_audio(synth_sounds(4), tmp_path/'pack')
    settings = dict(synth=.5, predictor=8, schedule=1, mask=.3, variance=.1, bs=16), dict(near=1., same=.3, bs=16), dict(synth=1., spread=.3, bs=16), dict(seconds=2., coarse=.5, bs=16)
    for i,o in enumerate(settings):
        enc = levers.train(pack, tmp_path/str(i), 'tiny', o, 0, 64, False)
        assert np.isfinite(enc.embed(pack[0], progress=False)).all()
        assert (tmp_path/str(i)/'config.json').exists()

def test_a_student_imitates(tmp_path):
    from benchmarks import distil
    files = get_audio_files(synth_sounds(5)).sorted()
    pd.DataFrame(dict(files=files.map(str))).to_csv(tmp_path/'pretrain.csv', index=False)
    distil.main(data=tmp_path, keep=tmp_path, teachers='slicer-base slicer-small', out=tmp_path/'student', clips=200)
    student = AudioEncoder.from_pretrained(tmp_path/'student')
    assert student.num_features==3712 and np.isfinite(student.embed(files[0])).all()
    assert (student.body.fc[0].weight!=student.untrained(0).body.fc[0].weight).any()
