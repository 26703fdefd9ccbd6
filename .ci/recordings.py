"A folder of recordings as a user might have them: wav, mp3, one broken file, one that is empty"
import sys
from pathlib import Path
import soundfile as sf
from slicer_fastai.all import synth_sounds, get_audio_files

dest = Path(sys.argv[1]); dest.mkdir()
for i,f in enumerate(get_audio_files(synth_sounds(n=1))):
    x,sr = sf.read(f)
    sf.write(dest/f'{f.stem}.{("wav","mp3")[i%4==3]}', x, sr)
(dest/'broken.wav').write_bytes(b'RIFF not a wave at all')
(dest/'empty.wav').write_bytes(b'')
