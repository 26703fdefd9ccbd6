"""An hour of sound: seconds and memory to index it at a half-second hop, and to score it with a detector. Two weeks are 336 of it.

    python -m benchmarks.hour [--hours 1] [--threads 2] [--csv hour.csv]

The recordings are synthesised (`synth_recordings`: 16 kHz FLAC of six minutes). Each task in a process of its own; memory is what it holds at most above what it held
once the encoder was there and had been used.
"""
import json, subprocess, sys, tempfile
from fastcore.script import call_parse
from fastai.basics import *
from slicer_fastai.audio.scenes import *

child = '''
import json, sys, time
from slicer_fastai.all import *
from benchmarks import Grown
folder,threads,task = Path(sys.argv[1]),int(sys.argv[2]),sys.argv[3]
torch.set_num_threads(threads)
encoder = AudioEncoder.from_pretrained('slicer-small')
detector = encoder.detector(read_annotations(folder/'labels.csv', recordings=folder, verbose=False))
files = get_audio_files(folder)
wall,cpu = time.time(),time.process_time()
with Grown() as grown: res = encoder.index(files, hop=.5) if task=='index' else detector.scores(files, progress=False)
wall,cpu = time.time()-wall,time.process_time()-cpu
print(json.dumps(dict(task=task, windows=len(res), seconds=round(wall, 1), processor_seconds=round(cpu, 1), MB=round(grown.mb))))
'''

@call_parse
def main(
    hours:float=1.,  # of sound
    threads:int=2,   # of torch
    csv:Path=None,   # write the table there too
):
    "Index and score"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = synth_recordings(n=round(10*hours), seconds=360., each=5, path=Path(folder)/'recordings')
        events = pd.read_csv(path/'events.csv')
        (path/'events.csv').unlink()
        first_two = events.file.unique()[:2]
        events[events.file.isin(first_two)].to_csv(path/'labels.csv', index=False)
        for task in ('index','scores'):
            run = subprocess.run([sys.executable, '-W', 'ignore', '-c', child, str(path), str(threads), task], capture_output=True, text=True)
            if run.returncode: raise RuntimeError(run.stderr[-500:])
            row = json.loads(run.stdout.strip().splitlines()[-1])
            rows.append({**row, 'hours':hours, 'threads':threads, 'hours_for_336':round(336*row['seconds']/hours/3600, 2)})
    table = pd.DataFrame(rows)
    if csv: table.to_csv(csv, index=False)
    print(table.to_string(index=False))
