"Two runs and one folder; files that were replaced"
from conftest import *
from slicer_fastai.core.locks import FolderBusy
from slicer_fastai.train.resume import Resume, held_locks
import shutil, signal, subprocess, sys

root = Path(__file__).resolve().parents[1]

class Kill(Callback):
    "The process ends in the middle of the second epoch, as far as the learner can tell"
    order = Resume.order+1
    def after_batch(self):
        if self.training and self.epoch==1: raise KeyboardInterrupt

def interrupted(learn, folder):
    with pytest.raises(KeyboardInterrupt): quiet(learn, learn.fit, 3, 1e-3, cbs=[Resume(folder, minutes=0), Kill()])

holder = '''
import sys, time
from slicer_fastai.core.locks import FolderLock
with FolderLock(sys.argv[1], 'training'):
    print('held', flush=True)
    time.sleep(60)
'''

def test_a_second_run_does_not_go_on_from_the_state_of_a_living_one(tiny, tmp_path):
    interrupted(tiny(), tmp_path/'run')
    assert not list((tmp_path/'run').glob('.slicer-lock')) or held_locks   # this process may go on
    for lock in held_locks.values(): lock.release()
    held_locks.clear()
    other = subprocess.Popen([sys.executable, '-c', holder, tmp_path/'run'], stdout=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONPATH':str(root)})
    try:
        assert other.stdout.readline()=='held\n'
        before = {f.name:f.read_bytes() for f in (tmp_path/'run').glob('state-*')}
        for force in (False,True):
            learn = tiny()
            with pytest.raises(FolderBusy, match=str(other.pid)): quiet(learn, learn.fit, 3, 1e-3, cbs=Resume(tmp_path/'run', force=force))
        assert before=={f.name:f.read_bytes() for f in (tmp_path/'run').glob('state-*')}
    finally:
        other.kill()
        other.wait()
    learn = tiny()
    quiet(learn, learn.fit, 3, 1e-3, cbs=Resume(tmp_path/'run'))           # it is dead: go on
    assert len(learn.recorder.values)==3

def test_the_lock_is_given_back(tiny, tmp_path):
    learn = tiny()
    run = Resume(tmp_path/'run')
    quiet(learn, learn.fit, 1, 1e-3, cbs=run)
    assert not (tmp_path/'run'/'.slicer-lock').exists() and list((tmp_path/'run').glob('state-*'))
    other = tiny()
    with pytest.raises(ValueError, match='other settings'): quiet(other, other.fit, 2, 1e-3, cbs=Resume(tmp_path/'run'))
    assert not (tmp_path/'run'/'.slicer-lock').exists()
    run.remove()
    assert not (tmp_path/'run').exists()

def test_other_files_under_the_same_names_are_noticed(tiny, loaders, files, tmp_path):
    def copies(name):
        folder = tmp_path/name/'sounds'
        folder.mkdir(parents=True)
        return [Path(shutil.copy(f, folder/f.name)) for f in files[::3]]
    first = copies('a')
    interrupted(tiny(loaders(first)), tmp_path/'run')
    moved = tiny(loaders(copies('b')))                                       # the same clips elsewhere
    quiet(moved, moved.fit, 3, 1e-3, cbs=Resume(tmp_path/'run'))
    assert len(moved.recorder.values)==3
    shutil.rmtree(tmp_path/'run')
    interrupted(tiny(loaders(first)), tmp_path/'run')
    noise = (np.random.default_rng(0).normal(size=16000)*.1).astype('f4')
    import soundfile as sf
    for f in first: sf.write(f, noise, 16000)
    replaced = tiny(loaders(first))
    with pytest.raises(ValueError, match='contents_of_the_clips'): quiet(replaced, replaced.fit, 3, 1e-3, cbs=Resume(tmp_path/'run'))
