"""Files of many formats, read by this library and by ffmpeg: length, samples, and windows cut from the whole. Needs ffmpeg and PyAV.

python -m benchmarks.formats [--out benchmarks/results/formats.csv]

off_ffmpeg: largest difference from ffmpeg's samples; off_windows: of windows from the whole, as read here. AAC is encoded without its noise substitution
(aac_noise.m4a: with it), since that noise is drawn anew whenever decoding begins. Of chained.ogg, ffmpeg puts 64 samples more at each beginning.
bits.amr and bits_wb.amr hold frames of random bits, since few builds of ffmpeg have an encoder for them: any bits are a sound, and both decoders read the same.
Above 6.4 kHz AMR-WB is noise, drawn anew whenever decoding begins, as that of AAC.
ffmpeg reads nothing of switched_off.aiff (a chunk of sound of size 0). What this ffmpeg cannot encode stands in the table as such.
"""
from slicer_fastai.all import *
from slicer_fastai.audio.clip import decode,seeks_again
from slicer_fastai.audio.formats import open_audio
from fastcore.script import call_parse
import shutil, subprocess, tempfile, time
import soundfile as sf

#: Name of the file → arguments of ffmpeg
formats = {'wav16.wav':'', 'wav24.wav':'-c:a pcm_s24le', 'adpcm.wav':'-c:a adpcm_ms', 'wma.wav':'-c:a wmav2', 'flac.flac':'', 'vorbis.ogg':'-c:a libvorbis',
    'opus.ogg':'-c:a libopus', 'vbr.mp3':'-q:a 4', 'low.mp3':'-b:a 32k -ac 1 -ar 22050', 'no_xing.mp3':'-q:a 4 -write_xing 0',
    'aac.m4a':'-aac_pns 0', 'aac_noise.m4a':'', 'alac.m4a':'-c:a alac', 'aac.mp4':'-c:a aac -aac_pns 0', 'raw.aac':'-aac_pns 0', 'wma.wma':'', 'opus.webm':'', 'vorbis.webm':'-c:a libvorbis',
    'aac.mka':'-c:a aac -aac_pns 0', 'aac.mov':'-c:a aac -aac_pns 0', 'aac.3gp':'-c:a aac -aac_pns 0', 'wavpack.wv':'', 'layer2.mp2':'', 'aiff.aiff':'', 'au.au':'', 'caf.caf':'', 'w64.w64':''}

def ffmpeg(*args): return subprocess.run(['ffmpeg','-hide_banner','-loglevel','error','-y',*map(str, args)], capture_output=True, check=True).stdout

def make(
    folder:Path,      # where the files go
    seconds:float=20, # of each
):
    "One sound in all formats, and some as they come from pipes"
    rng,sr = np.random.default_rng(0),48000
    t = np.arange(int(seconds*sr))/sr
    sweep = .3*np.sin(2*np.pi*(200+100*t)*t)*(1+.5*np.sin(2*np.pi*3*t))
    sf.write(folder/'source.wav', np.stack([sweep, sweep*.5+.02*rng.standard_normal(len(t))], 1), sr)
    for name,args in formats.items():
        try: ffmpeg('-i', folder/'source.wav', *args.split(), folder/name)
        except subprocess.CalledProcessError as e:
            print(f'{name}: {e.stderr.decode().strip().splitlines()[-1]}')
            (folder/name).unlink(missing_ok=True)
    (folder/'streamed.flac').write_bytes(ffmpeg('-i', folder/'source.wav', '-f', 'flac', '-'))
    (folder/'streamed.wav').write_bytes(ffmpeg('-i', folder/'source.wav', '-f', 'wav', '-'))
    ogg = folder/'vorbis.ogg'
    if ogg.exists(): (folder/'chained.ogg').write_bytes(2*ogg.read_bytes())
    switched_off = bytearray((folder/'aiff.aiff').read_bytes())
    i = switched_off.find(b'SSND')
    switched_off[i+4:i+8] = (8).to_bytes(4, 'big')
    (folder/'switched_off.aiff').write_bytes(switched_off)
    for name,magic,first_byte,size in (('bits.amr',b'#!AMR\n',b'\x3c',31), ('bits_wb.amr',b'#!AMR-WB\n',b'\x44',60)):
        frames = [first_byte+rng.bytes(size) for _ in range(int(50*seconds))]
        (folder/name).write_bytes(magic+b''.join(frames))
    (folder/'source.wav').unlink()

def compare(
    fn:Path,       # a file
    windows:int=30, # at random places
)->dict:
    "A row of the table"
    t = time.perf_counter()
    f = open_audio(fn)
    opened = time.perf_counter()-t
    whole = decode(f, 0, f.frames, 'float32')
    by_ffmpeg = np.frombuffer(ffmpeg('-i', fn, '-f', 'f32le', '-'), np.float32).reshape(-1, f.channels)
    n = min(len(whole), len(by_ffmpeg))
    off,t = 0.,time.perf_counter()
    for i in np.random.default_rng(0).integers(0, len(whole)-9600, windows).tolist():
        if not seeks_again(f): f = open_audio(fn)
        off = max(off, float(np.abs(decode(f, i, 9600, 'float32')-whole[i:i+9600]).max()))
    window = (time.perf_counter()-t)/windows
    off_ffmpeg = float(np.abs(whole[:n]-by_ffmpeg[:n]).max()) if n else math.nan
    return dict(file=fn.name, reader=type(f).__name__, rate=f.samplerate, samples=len(whole), samples_ffmpeg=len(by_ffmpeg),
                off_ffmpeg=off_ffmpeg, off_windows=off, open_ms=1000*opened, window_ms=1000*window)

@call_parse
def main(
    out:Path='benchmarks/results/formats.csv', # the table
):
    "Compare all formats with ffmpeg"
    folder = Path(tempfile.mkdtemp())
    try:
        make(folder)
        missing = [dict(file=name, reader='not encoded by this ffmpeg') for name in formats if not (folder/name).exists()]
        table = pd.DataFrame([compare(fn) for fn in sorted(folder.iterdir())]+missing)
    finally: shutil.rmtree(folder)
    out = Path(out)
    out.parent.mkdir(exist_ok=True)
    table.to_csv(out, index=False, float_format='%.3g')
    print(table.to_string(index=False, float_format='{:.2g}'.format))
