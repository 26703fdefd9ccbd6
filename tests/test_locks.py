"One writer a folder: `core.locks`"
from conftest import *
from slicer_fastai.core.locks import *
from slicer_fastai.core.locks import lock_name, machine_id, read_lock, this_writer, write_lock
import json, subprocess, time
from multiprocessing import get_context
from threading import Thread

hold = '''
import sys, time
from slicer_fastai.core.locks import *
with locked(sys.argv[1], 'packing'):
    print('held', flush=True)
    time.sleep(float(sys.argv[2]))
'''
def other_process(folder, seconds):
    "A process that holds the lock of a folder, once it has it"
    p = subprocess.Popen([sys.executable, '-c', hold, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline()=='held\n'
    return p

def holder(**changes): return this_writer('indexing')|changes

def test_the_other_process_is_named_and_its_folder_is_left_alone(tmp_path):
    p = other_process(tmp_path/'pack', 60)
    try:
        with pytest.raises(FolderBusy, match=rf'process {p.pid} on .* has been packing there since 20'): locked(tmp_path/'pack').acquire()
        assert read_lock(tmp_path/'pack'/lock_name)['pid']==p.pid
    finally:
        p.kill()
        p.wait()

def test_a_killed_holder_is_recognised_also_before_it_is_reaped(tmp_path):
    p = other_process(tmp_path, 60)
    p.kill()
    time.sleep(.3)                                              # dead, but still in the table of processes: a zombie
    with locked(tmp_path, 'training') as lock: assert lock.is_held() and read_lock(lock.fn)['pid']==os.getpid()
    p.wait()
    assert os.listdir(tmp_path)==[]

def test_a_number_that_another_process_has_now_is_no_holder(tmp_path):
    write_lock(tmp_path/lock_name, holder(start='12'))          # this process's number, of one that started earlier
    with locked(tmp_path) as lock: assert lock.is_held()

@pytest.mark.parametrize('seconds,busy', [(60,True), (600,False)])
def test_on_another_machine_signs_of_life_count(tmp_path, seconds, busy):
    fn = tmp_path/lock_name
    write_lock(fn, holder(machine='elsewhere', host='elsewhere\x1b[2J', pid=2**22+1))
    os.utime(fn, (time.time()-seconds,)*2)
    if busy:
        with pytest.raises(FolderBusy, match=r'process 4194305 on elsewhere\[2J has'): locked(tmp_path).acquire()
        assert fn.exists()
    else:
        with locked(tmp_path) as lock: assert lock.is_held()
    assert len(os.listdir(tmp_path))==busy                      # no probe, no lock put aside

@pytest.mark.parametrize('text', ['', '{', '[]', '{"pid":"x"}', '['*3000, '{"pid":NaN}'])
def test_a_damaged_lock_counts_by_its_age(tmp_path, text):
    fn = tmp_path/lock_name
    fn.write_text(text)
    with pytest.raises(FolderBusy, match='delete'): locked(tmp_path).acquire()
    os.utime(fn, (time.time()-600,)*2)
    with locked(tmp_path) as lock: assert lock.is_held()

def test_a_planted_link_is_not_written_through(tmp_path):
    (tmp_path/'a').mkdir()
    (tmp_path/'a'/lock_name).symlink_to(tmp_path/'victim')
    with pytest.raises(FolderBusy): locked(tmp_path/'a').acquire()
    assert not (tmp_path/'victim').exists()

def test_an_empty_folder_goes_again_and_a_full_one_stays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with locked(tmp_path/'new'): raise KeyboardInterrupt
    with locked(tmp_path/'used') as lock: (tmp_path/'used/a').touch()
    (tmp_path/'there').mkdir()
    with locked(tmp_path/'there'): pass
    assert sorted(os.listdir(tmp_path))==['there','used'] and os.listdir(tmp_path/'used')==['a']

def test_a_holder_that_slept_too_long_notices(tmp_path):
    lock = locked(tmp_path).acquire()
    lock.check()
    lock.fn.unlink()
    write_lock(lock.fn, holder(pid=1))                          # another process took it
    with pytest.raises(FolderBusy, match='process 1 '): lock.check()
    lock.release()
    assert read_lock(lock.fn)['pid']==1                         # and keeps it

def test_a_child_does_not_unlock_its_parents_folder(tmp_path):
    lock = locked(tmp_path).acquire()
    p = get_context('fork').Process(target=lock.release)
    p.start()
    p.join()
    assert lock.is_held()
    lock.release()

def test_of_many_that_find_a_dead_holder_one_goes_on(tmp_path):
    n = 0
    for _ in range(20):
        write_lock(tmp_path/lock_name, holder(start='12'))
        got,refused = [],[]
        def attempt():
            try: got.append(locked(tmp_path).acquire())
            except FolderBusy: refused.append(1)
        threads = [Thread(target=attempt) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert sum(o.is_held() for o in got)==len(got)<=1, (got, refused)
        n += len(got)
        for o in got: o.release()
        (tmp_path/lock_name).unlink(missing_ok=True)
    assert n>10

def test_the_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr('slicer_fastai.core.locks.beat_seconds', .05)
    with locked(tmp_path) as lock:
        os.utime(lock.fn, (1,1))
        for _ in range(100):
            if lock.fn.stat().st_mtime>1: break
            time.sleep(.05)
        assert lock.fn.stat().st_mtime>1
