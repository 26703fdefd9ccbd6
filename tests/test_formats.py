"Files that people have: the length and the samples are those of the sound, or the error names the file"
from conftest import *
from slicer_fastai.audio.formats import RawFile,AvSound,find_mp3,flac_length,look_into,open_audio
from slicer_fastai.audio.clip import decode,pad_to
from slicer_fastai.audio.spectrogram import mel_edges
import builtins, importlib.util, io, struct, soundfile as sf

SR = 44100
def tone(seconds, hz=440, gain=.4, sr=SR): return (gain*np.sin(2*np.pi*hz*np.arange(round(seconds*sr))/sr)).astype(np.float32)
def noise(seconds, gain=.2, sr=SR, seed=0): return (gain*np.random.default_rng(seed).standard_normal(round(seconds*sr)).clip(-3, 3)).astype(np.float32)
def encoded(x, sr=SR, **kwargs):
    b = io.BytesIO()
    sf.write(b, x, sr, **kwargs)
    return b.getvalue()
def whole(fn, channel='mean'):
    with open_audio(fn) as f: return decode(f, 0, f.frames, 'float32')
def rms(x): return float(np.sqrt(np.square(x).mean()))

def windows_are_cut_from_the_whole(fn, n=3000, tol=1e-5, places=25):
    "Windows at random places hold the samples that decoding all of the file gives"
    x = whole(fn)
    f = open_audio(fn)
    for i in np.random.default_rng(0).integers(0, len(x)-n, places).tolist():
        if f.format=='OGG': f = open_audio(fn)
        assert np.abs(decode(f, i, n, 'float32')-x[i:i+n]).max()<tol, i
    f.close()

# --- WAV ---

@pytest.mark.parametrize('form', ['WAV','WAVEX','RF64'])
def test_a_wav_whose_length_was_never_written(tmp_path, told, form):
    x = np.stack([tone(1.), tone(1., 880)], 1)
    b = bytearray(encoded(x, format=form))
    i = b.find(b'data')
    if form=='RF64': b[20:36] = bytes(16)
    else: b[4:8] = b[i+4:i+8] = bytes(4)
    fn = tmp_path/'a.wav'
    fn.write_bytes(b)
    assert Clip(fn, SR).n==SR
    assert np.abs(whole(fn)-x).max()<1e-4
    assert np.abs(read_window(fn, .5, SR, start=.5)-x[SR//2:].mean(1)).max()<1e-4
    assert len(verify_audio([fn], whole=True))==0

def test_a_wav_that_breaks_off_is_read_and_said(tmp_path):
    from slicer_fastai.audio import formats
    formats.told.clear()
    x = tone(1.)
    (tmp_path/'a.wav').write_bytes(encoded(x, format='WAV')[:44+SR])
    with pytest.warns(UserWarning, match=r'a.wav: its header promises 88,200 bytes of sound, 44,100 are there'): y = whole(tmp_path/'a.wav')
    assert len(y)==SR//2 and np.abs(y[:,0]-x[:SR//2]).max()<1e-4

def test_an_empty_wav_with_other_chunks_stays_empty(tmp_path):
    b = encoded(tone(.1), format='WAV')
    (tmp_path/'a.wav').write_bytes(b[:40]+bytes(4)+b'LIST'+struct.pack('<I', 4)+b'INFO')
    with pytest.raises(AudioReadError, match='0 samples'): read_window(tmp_path/'a.wav')

@pytest.mark.parametrize('subtype,form', [('GSM610','WAV'), ('GSM610','AIFF'), ('G721_32','AU'), ('NMS_ADPCM_32','WAV')])
def test_codecs_that_cannot_be_sought_in(tmp_path, subtype, form):
    x = tone(2., 300, sr=8000)
    (tmp_path/'a.wav').write_bytes(encoded(x, 8000, format=form, subtype=subtype))
    with sf.SoundFile(tmp_path/'a.wav') as f: want = f.read(f.frames, dtype='float32')
    y = read_window(tmp_path/'a.wav', .25, 8000, start=1.)
    assert np.abs(y-want[8000:10000]).max()<1e-6 and .2<rms(y)<.35
    windows_are_cut_from_the_whole(tmp_path/'a.wav')

# --- FLAC ---

def flac(x, total):
    "A FLAC whose header says that it has `total` samples"
    b = bytearray(encoded(x, format='FLAC'))
    b[21:26] = (b[21]>>4<<36 | total).to_bytes(5, 'big')
    return bytes(b)

@pytest.mark.parametrize('total', [0, 2**36-1])
@pytest.mark.parametrize('x', [noise(2.3), np.stack([tone(2.), noise(2.)], 1), np.zeros(50_000, np.float32)], ids=['noise','stereo','silence'])
def test_a_flac_of_unknown_or_impossible_length(tmp_path, x, total):
    fn = tmp_path/'a.flac'
    fn.write_bytes(flac(x, total))
    assert Clip(fn, SR).n==len(x)
    y = whole(fn)
    assert y.shape==x.reshape(len(x), -1).shape and np.abs(y-x.reshape(y.shape)).max()<1e-4
    windows_are_cut_from_the_whole(fn)

def test_a_torn_flac_of_unknown_length_ends_with_its_last_whole_frame(tmp_path):
    x = noise(2.)
    b = flac(x, 0)
    (tmp_path/'a.flac').write_bytes(b[:len(b)*2//3])
    y = whole(tmp_path/'a.flac')[:,0]
    assert .6*len(x)<len(y)<.68*len(x) and np.abs(y-x[:len(y)]).max()<1e-4

def test_a_streamed_flac_does_not_take_a_folder_down(folder):
    d = folder(4)
    (d/'x.flac').write_bytes(flac(tone(1.2), 0))
    e = AudioEncoder('audiontt', **encoder_kw).embed(d)
    assert e.shape[0]==5 and np.isfinite(e).all()

# --- MP3 ---

def mp3(x, sr=SR, level=.5): return encoded(x, sr, format='MP3', bitrate_mode='VARIABLE', compression_level=level)
def without_tag(b):
    "An MP3 without its first frame, which says how long it is"
    i = 0
    if b[:3]==b'ID3': i = 10+(b[6]<<21|b[7]<<14|b[8]<<7|b[9])
    from slicer_fastai.audio.formats import mp3_sizes,mp3_tag
    assert mp3_tag(b, i) is not None
    return b[i+mp3_sizes[int.from_bytes(b[i+1:i+3], 'big')]:]

@pytest.mark.parametrize('sr', [44100, 22050, 8000])
@pytest.mark.parametrize('order', [1,-1])
def test_a_variable_mp3_without_a_count_of_its_frames(tmp_path, sr, order):
    "Ten seconds of noise and twenty of a quiet tone, whichever comes first: thirty are read"
    loud,quiet = mp3(noise(10, sr=sr), sr),mp3(tone(20, 100, .02, sr), sr)
    fn = tmp_path/'a.mp3'
    fn.write_bytes(b''.join([without_tag(loud), without_tag(quiet)][::order]))
    seconds = Clip(fn).seconds
    assert 30<=seconds<30.5
    x = read_window(fn, None, sr)
    first,last = x[sr:9*sr],x[-9*sr:-sr]
    assert (rms(first)>.15 and rms(last)<.02) if order==1 else (rms(first)<.02 and rms(last)>.15)
    windows_are_cut_from_the_whole(fn)

def test_joined_mp3s_are_read_to_the_end(tmp_path):
    "The first one's header counts the first one's frames"
    a,b = noise(2.),tone(3.)
    (tmp_path/'a.mp3').write_bytes(mp3(a)+mp3(b))
    assert 5<=Clip(tmp_path/'a.mp3').seconds<5.2
    x = read_window(tmp_path/'a.mp3', 1., SR, start=3.5)
    assert abs(np.abs(np.fft.rfft(x)).argmax()-440)<=1

def test_a_tagged_mp3_stays_as_it_was(tmp_path):
    x = noise(3.)
    (tmp_path/'a.mp3').write_bytes(mp3(x))
    with RawFile(tmp_path/'a.mp3') as f: assert find_mp3(f) is None
    assert Clip(tmp_path/'a.mp3', SR).n==len(x)

@pytest.mark.parametrize('sr', [44100, 22050])
@pytest.mark.parametrize('x', [tone(6., 100, .02), noise(6., .01)], ids=['tone','noise'])
def test_windows_of_an_mp3_of_few_bits(tmp_path, x, sr):
    "Small frames take bits from frames before them: libsndfile's seek gives a fraction of a second of something else"
    (tmp_path/'a.mp3').write_bytes(mp3(x, sr, level=.99))
    windows_are_cut_from_the_whole(tmp_path/'a.mp3')

# --- Ogg ---

@pytest.mark.parametrize('subtype', ['VORBIS','OPUS'])
def test_a_chained_ogg_is_read_to_the_end(tmp_path, subtype):
    a,b = tone(1., sr=48000),tone(1.5, 880, sr=48000)
    parts = [encoded(o, 48000, format='OGG', subtype=subtype) for o in (a,b)]
    fn = tmp_path/'a.ogg'
    fn.write_bytes(b''.join(parts))
    assert Clip(fn, 48000).n==len(a)+len(b)
    want = np.concatenate([sf.read(io.BytesIO(o), dtype='float32')[0] for o in parts])
    assert np.abs(whole(fn)[:,0]-want).max()<1e-6
    across = read_window(fn, .5, 48000, start=.75)
    assert np.abs(across-want[36000:60000]).max()<1e-6
    windows_are_cut_from_the_whole(fn, 2000)

def test_a_chained_ogg_of_two_rates_is_named(tmp_path):
    (tmp_path/'a.ogg').write_bytes(b''.join(encoded(tone(1., sr=sr), sr, format='OGG') for sr in (48000,16000)))
    with pytest.raises(AudioReadError, match='different sample rates.*ffmpeg'): read_window(tmp_path/'a.ogg')

# --- PyAV ---

def by_av(fn, x, codec, sr, format=None):
    "Encode a mono wave by PyAV"
    av = pytest.importorskip('av')
    with av.open(str(fn), 'w', format=format) as c:
        options = {'aac_pns':'0'} if codec=='aac' else {}               # else its noise is drawn anew at each decoding
        s = c.add_stream(codec, rate=sr, layout='mono', options=options)
        s.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray((x*32767).astype(np.int16)[None], format='s16', layout='mono')
        frame.sample_rate = sr
        resampled = av.AudioResampler(format=s.format, layout='mono', rate=sr, frame_size=s.frame_size or 1024)
        for o in (*resampled.resample(frame), *resampled.resample(None)):
            for p in s.encode(o): c.mux(p)
        for p in s.encode(None): c.mux(p)

coded = [('a.m4a','aac',None), ('a.mp4','aac',None), ('a.aac','aac','adts'), ('a.wma','wmav2','asf'), ('a.webm','libopus',None),
         ('alac.m4a','alac',None), ('a.3gp','aac',None), ('a.mka','libmp3lame',None)]

@pytest.mark.parametrize('name,codec,form', coded)
def test_what_libsndfile_does_not_read(tmp_path, name, codec, form):
    av = pytest.importorskip('av')
    x = (tone(3., 500, .2, 48000) + noise(3., .05, 48000))*np.linspace(0, 1, 144000, dtype=np.float32)
    fn = tmp_path/name
    by_av(fn, x, codec, 48000, form)
    with av.open(str(fn)) as c: frames = [o for o in c.decode(audio=0)]
    want = np.concatenate([o.to_ndarray().reshape(-1) for o in frames])
    if want.dtype!=np.float32: want = want/np.float32(2**(8*want.itemsize-1))
    y = whole(fn)[:,0]
    assert len(y)==len(want)==Clip(fn, 48000).n and np.abs(y-want).max()<1e-6
    assert abs(len(y)-len(x))<4096
    best = max(np.corrcoef(x[4800:96000], y[4800+d:96000+d])[0,1] for d in range(-2400, 2401, 1 if codec=='alac' else 8))
    assert best>.9                                                      # it is that sound
    windows_are_cut_from_the_whole(fn)
    assert not len(verify_audio([fn], whole=True))

def test_a_long_file_is_read_in_pieces_as_in_one(tmp_path):
    by_av(tmp_path/'a.m4a', noise(5., .2, 16000), 'aac', 16000)
    clip = Clip(tmp_path/'a.m4a')
    pieces = [clip.read(i, 7001, last=False) for i in range(0, clip.n, 7001)]
    assert np.abs(np.concatenate(pieces)-read_window(tmp_path/'a.m4a', None)).max()<1e-5

def test_a_member_of_a_shard_is_read_by_pyav(tmp_path):
    by_av(tmp_path/'a.m4a', tone(1., sr=16000), 'aac', 16000)
    inside = AudioBytes((tmp_path/'a.m4a').read_bytes(), 'shard-0.tar: a.m4a')
    assert np.array_equal(read_window(inside), read_window(tmp_path/'a.m4a'))

def test_a_video_without_sound_and_a_playlist_are_named(tmp_path):
    pytest.importorskip('av')
    (tmp_path/'a.m4a').write_text('#EXTM3U\n/etc/passwd\n')
    (tmp_path/'b.m4a').write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    (tmp_path/'c.m4a').write_bytes(b'\0\0\0\x18ftypM4A '+bytes(100))
    assert verify_audio(tmp_path).file.map(lambda f: Path(f).name).tolist()==['a.m4a','b.m4a','c.m4a']

@pytest.fixture
def no_av(monkeypatch):
    "As if PyAV were not installed"
    from slicer_fastai.audio import clip,formats
    for m in (clip,formats): monkeypatch.setattr(m, 'find_spec', lambda name: None if name=='av' else importlib.util.find_spec(name))

def test_without_pyav_files_are_counted_and_the_way_is_shown(folder, no_av):
    d = folder(2)
    for n in ('a.m4a','b.m4a','c.WMA'): (d/n).write_bytes(b'\0\0\0\x18ftypM4A '+bytes(100))
    with pytest.warns(UserWarning, match=r"2 .m4a, 1 .wma in .* are left out: pip install 'slicer_fastai\[av\]'"): files = get_audio_files(d)
    assert files.attrgot('name')==['00.wav','01.wav']
    with pytest.raises(AudioReadError, match=r"a.m4a: is in a format that libsndfile does not read.*slicer_fastai\[av\]"): read_window(d/'a.m4a')
    for f in files: f.unlink()
    with pytest.warns(UserWarning), pytest.raises(FileNotFoundError, match=r'2 .m4a, 1 .wma.*slicer_fastai\[av\]'): get_audio_files(d)

# --- headers ---

def test_a_path_of_windows_is_named():
    with pytest.raises(AudioReadError, match='no such file.*Windows'): read_window('C:\\sounds\\a.wav')

# --- channels ---

def stereo(tmp_path, left, right, sr=16000):
    sf.write(tmp_path/'s.wav', np.stack([left, right], 1), sr, subtype='FLOAT')
    return tmp_path/'s.wav'

def test_a_channel_can_be_chosen(tmp_path):
    left,right = tone(2., 440, .1, 16000),tone(2., 1000, .4, 16000)
    fn = stereo(tmp_path, left, right)
    for channel,want in ((0,left), (1,right), ('loudest',right), ('mean',(left+right)/2)):
        assert np.abs(read_window(fn, 1., channel=channel, start=.5)-want[8000:24000]).max()<1e-6
        assert np.abs(Clip(fn, channel=channel).read()-want).max()<1e-6
    with pytest.raises(AudioReadError, match='has 2 channels, none of number 2'): read_window(fn, channel=2)
    for bad in ('left', -1, None, 1.):
        with pytest.raises(ValueError, match='channel='): read_window(fn, channel=bad)

def test_channels_that_cancel_each_other_are_told(tmp_path):
    from slicer_fastai.audio import formats
    x = tone(2., sr=16000)
    fn = stereo(tmp_path, x, -x)
    formats.told.clear()
    with pytest.warns(UserWarning, match="s.wav: its channels cancel each other.*channel='loudest'"): y = read_window(fn)
    assert rms(y)<1e-6 and rms(read_window(fn, channel='loudest'))>.2

def test_a_mono_file_has_any_channel(tmp_path):
    sf.write(tmp_path/'m.wav', tone(1., sr=16000), 16000)
    assert np.array_equal(read_window(tmp_path/'m.wav', channel=1), read_window(tmp_path/'m.wav'))

# --- folders ---

def test_a_link_does_not_take_the_place_of_its_file(tmp_path):
    (tmp_path/'owl').mkdir()
    (tmp_path/'frog').mkdir()
    sf.write(tmp_path/'owl/a.wav', tone(1.), SR)
    (tmp_path/'frog/a.wav').symlink_to(tmp_path/'owl/a.wav')
    with pytest.warns(UserWarning, match='1 links.*frog/a.wav for .*owl/a.wav'): files = get_audio_files(tmp_path)
    assert files==[tmp_path/'owl/a.wav']

def test_a_link_to_a_folder_does_not_take_its_place(tmp_path):
    (tmp_path/'owl').mkdir()
    sf.write(tmp_path/'owl/a.wav', tone(1.), SR)
    (tmp_path/'frog').symlink_to(tmp_path/'owl')
    assert get_audio_files(tmp_path)==[tmp_path/'owl/a.wav']

def test_a_folder_that_cannot_be_read_is_told(folder, monkeypatch):
    import os as os_
    d = folder(2)
    (d/'closed').mkdir()
    scandir = os_.scandir
    def refuse(path):
        if str(path).endswith('closed'): raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)
    monkeypatch.setattr(os_, 'scandir', refuse)
    with pytest.warns(UserWarning, match='1 folders cannot be read.*closed .Permission denied'): files = get_audio_files(d)
    assert len(files)==2

def test_names_reach_no_terminal_as_they_are(tmp_path):
    fn = tmp_path/'owl\x1b[2J\x07\u202e.wav'
    fn.write_text('no sound')
    with pytest.raises(AudioReadError) as e: read_window(fn)
    assert r'owl\x1b[2J\x07\u202e.wav' in str(e.value) and not set(str(e.value))&set('\x1b\x07\u202e')
    assert '\x1b' not in verify_audio(tmp_path).to_string()

# --- the one damaged file in the wrong place ---

@pytest.mark.parametrize('damage', ['nan','torn'])
@pytest.mark.parametrize('labels', [False,True])
def test_damage_in_the_middle_of_the_first_training_file(folder, damage, labels):
    d = folder(12, 3.)
    kw = dict(bs=4, num_workers=0, device='cpu', valid_pct=.2, **({'label_func':lambda f: f.stem[0]} if labels else {}))
    first_file = SlicerDataLoaders.from_folder(d, **kw).train.items[0]
    if isinstance(first_file, tuple): first_file = first_file[0]
    first_file = Path(getattr(first_file, 'item', first_file))
    x,sr = sf.read(first_file, dtype='float32')
    if damage=='nan':
        x[len(x)//3:2*len(x)//3] = np.nan
        sf.write(first_file, x, sr, subtype='FLOAT')
    else:
        b = bytearray(encoded(x, sr, format='FLAC'))
        b[len(b)//3:2*len(b)//3] = bytes(2*len(b)//3-len(b)//3)
        first_file.write_bytes(b)
    dls = SlicerDataLoaders.from_folder(d, **kw)
    assert dls.one_batch()[0].shape[0]==4

def test_when_nothing_can_be_read_the_reason_is_named(tmp_path):
    names = [f'C:\\sounds\\{i}.wav' for i in range(22)]
    with pytest.raises(ValueError, match='none of 18 files could be read, 18 for this reason: no such file .*Windows'):
        SlicerDataLoaders.from_lists(tmp_path, names, bs=4, num_workers=0, device='cpu', valid_pct=.2)

def test_verify_looks_at_a_place_only(tmp_path):
    x = np.concatenate([tone(1., sr=16000), np.full(16000, np.nan, np.float32)])
    sf.write(tmp_path/'a.wav', x, 16000, subtype='FLOAT')
    places = [Clip(tmp_path/'a.wav', start=s, seconds=1.) for s in (0.,1.)]
    assert len(verify_audio(places, whole=True))==1

# --- bands ---

def test_times_stay_where_the_rate_changes():
    for sr,n_fft,hop in ((16000,1024,160), (8000,512,80), (32000,2048,320), (384000,24576,3840)):
        m = LogMel(sr, f_max=3900.)
        assert (m.n_fft,m.hop_length)==(n_fft,hop)
    m = LogMel(44100, f_max=None)
    assert (m.hop_length,m.f_max)==(441,22050.) and abs(m.n_fft/44100-.064)<.002 and m.n_fft%2==0
    assert FrontEnd(44100, f_max=None).n_frames==FrontEnd().n_frames==96

def test_a_bat_is_heard():
    "A tone at 45 kHz stands in the band that has it, and its neighbours"
    front = FrontEnd(384000, duration=.5, f_max=None)
    x = torch.from_numpy(tone(.5, 45000, .4, 384000))
    bands = front(x[None,None]).as_subclass(Tensor).mean((0,1,3))
    edges = mel_edges(64, 60., 192000.)
    best = int(bands.argmax())
    assert edges[best]<45000<edges[best+2] and bands[best]-bands.median()>10
    assert FrontEnd.from_cfg(front.cfg)==front

def test_what_a_band_leaves_out_is_told(recwarn):
    LogMel(); LogMel(22050); LogMel(32000); LogMel(8000, f_max=4000)
    assert not [w for w in recwarn if 'f_max' in str(w.message) or 'mel bands' in str(w.message)]
    with pytest.warns(UserWarning, match='f_max=7800 Hz leaves out 96 % .*384000 Hz.*f_max=None'): LogMel(384000)
    with pytest.warns(UserWarning, match='30 of 64 mel bands are empty.*n_fft=1024'): LogMel(384000, n_fft=1024)

def test_a_front_end_has_a_channel(tmp_path):
    left,right = tone(2., 440, .05, 16000),tone(2., 1000, .4, 16000)
    fn = stereo(tmp_path, left, right)
    front = FrontEnd(channel='loudest')
    assert np.abs(front.read(fn)[0].numpy()-right[8400:23600]).max()<1e-6
    assert FrontEnd.from_cfg(front.cfg)==front and front!=FrontEnd() and 'channel' not in FrontEnd().cfg
    enc = AudioEncoder('audiontt', front=FrontEnd(channel=1), **encoder_kw).eval()
    assert np.abs(enc.embed(fn)-enc.embed(right, sr=16000)).max()<1e-4
    enc.save_pretrained(tmp_path/'e')
    assert AudioEncoder.from_pretrained(tmp_path/'e').front.channel==1
    dls = SlicerDataLoaders.from_lists(tmp_path, [fn]*6, channel=0, valid_idx=[4,5], bs=2, num_workers=0, device='cpu')
    assert dls.front.channel==0

def test_a_sound_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    x = AudioTensor(torch.from_numpy(tone(1., sr=16000))[None], sr=16000)
    for ending in ('wav','flac','ogg','mp3'):
        fn = x.save(tmp_path/f'a.{ending}')
        assert abs(Clip(fn, 16000).n-16000)<=1 and rms(read_window(fn, .5))>.25
    before = (tmp_path/'a.wav').read_bytes()
    import slicer_fastai.core.files as files_
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(files_, 'sync_to_disk', full)
    with pytest.raises(OSError): AudioTensor(torch.zeros(1, 99999)).save(tmp_path/'a.wav')
    assert (tmp_path/'a.wav').read_bytes()==before and len(list(tmp_path.iterdir()))==4

def test_an_error_names_the_file_whose_header_was_mended(tmp_path):
    b = bytearray(flac(noise(2.), 0))
    b[len(b)//2:len(b)//2+2000] = bytes(2000)
    (tmp_path/'a.flac').write_bytes(b)
    with pytest.raises(AudioReadError) as e: read_window(tmp_path/'a.flac', None)
    assert e.value.fn==str(tmp_path/'a.flac') and 'cannot decode' in str(e.value)

# --- MP2, AIFF ---

def mp2(x, sr, tmp_path, name='a.mp2'):
    "Layer II by FFmpeg, and its samples as FFmpeg decodes them"
    pytest.importorskip('av')
    by_av(tmp_path/name, x, 'mp2', sr, 'mp2')
    import av
    with av.open(str(tmp_path/name), format='mp3') as c:
        frames = [o.to_ndarray() for o in c.decode(audio=0)]
    want = np.concatenate([o.reshape(-1) for o in frames])
    return tmp_path/name, want if want.dtype==np.float32 else want/np.float32(2**(8*want.itemsize-1))

@pytest.mark.parametrize('sr', [44100, 24000])
def test_layer_2_has_the_length_and_samples_that_ffmpeg_finds(tmp_path, sr):
    fn,want = mp2(noise(2.3, sr=sr), sr, tmp_path)
    clip = Clip(fn, sr)
    assert clip.n==len(want) and clip.n%1152==0
    assert np.abs(clip.read()-want).max()<1e-4
    windows_are_cut_from_the_whole(fn)
    assert np.abs(read_window(fn, .5, sr, pos=1)-want[-sr//2:]).max()<1e-4
    assert get_audio_files(tmp_path)==[fn] and verify_audio([fn], whole=True, remarks=True).empty

def test_layer_2_that_grows_louder_in_bits_is_read_to_its_end_or_named(tmp_path, monkeypatch):
    "libsndfile takes the first frame's bits for all and stops early"
    a,x = mp2(noise(1.), 44100, tmp_path)
    few = b''.join(b'\xff\xfd\x10\xc4'+bytes(144*32000//44100-4) for _ in range(40))        # 32 kbit/s, silent
    many = a.read_bytes()
    (tmp_path/'b.mp2').write_bytes(many*3+few)
    n = Clip(tmp_path/'b.mp2', 44100).n
    assert n==3*len(x)+40*1152
    y = Clip(tmp_path/'b.mp2', 44100).read()
    assert len(y)==n and rms(y[-20*1152:])<1e-3 and np.abs(y[:len(x)-1152]-x[:-1152]).max()<1e-4
    (tmp_path/'c.mp2').write_bytes(few+many*3)
    n = Clip(tmp_path/'c.mp2', 44100).n
    assert n==3*len(x)+40*1152 and rms(Clip(tmp_path/'c.mp2', 44100).read()[-len(x)//2:])>.1

@pytest.mark.parametrize('subtype', ['PCM_16','PCM_24','FLOAT','ULAW'])
@pytest.mark.parametrize('size', [0, 8])
def test_an_aiff_whose_length_was_never_written(tmp_path, told, subtype, size):
    x = np.stack([tone(1.), tone(1., 880)], 1)
    b = bytearray(encoded(x, format='AIFF', subtype=subtype))
    want = sf.read(io.BytesIO(bytes(b)), always_2d=True, dtype='float32')[0]
    i,comm = b.find(b'SSND'),b.find(b'COMM')
    b[4:8] = b[comm+10:comm+14] = bytes(4)
    b[i+4:i+8] = size.to_bytes(4, 'big')
    fn = tmp_path/'a.aiff'
    fn.write_bytes(b)
    y = whole(fn)
    assert y.shape[0]-len(want) in (0,1) and np.abs(y[:len(want)]-want).max()<1e-6
    row, = verify_audio([fn], remarks=True).itertuples()
    assert row.readable and '0 bytes of sound' in row.reason and 'ffmpeg -i in.aiff -c copy' in row.remedy

def test_an_empty_aiff_stays_empty(tmp_path):
    b = encoded(np.zeros((0, 1), np.float32), format='AIFF')
    (tmp_path/'a.aiff').write_bytes(b+b'ANNO\0\0\0\4abcd')
    assert '0 samples' in verify_audio([tmp_path/'a.aiff']).reason[0]

# --- what verify_audio remarks on ---

def test_remarks_name_headers_that_were_made_up_for(tmp_path, told):
    streamed = bytearray(flac(noise(1.), 0))
    variable = without_tag(mp3(noise(2.)))
    ogg = encoded(noise(1.), format='OGG', subtype='VORBIS')
    for name,b in (('a.flac',streamed), ('b.mp3',variable), ('c.ogg',ogg+ogg), ('d.ogg',ogg), ('e.mp3',mp3(noise(2.)))):
        (tmp_path/name).write_bytes(b)
    (tmp_path/'f.wav').write_bytes(b'no sound')
    t = verify_audio(tmp_path, remarks=True)
    assert [Path(o).name for o in t.file]==['a.flac','b.mp3','c.ogg','f.wav'] and t.readable.tolist()==[True]*3+[False]
    assert f'no length: {SR:,} samples' in t.reason[0] and 'ffmpeg -i in.flac' in t.remedy[0]
    frames = int(re.search(r'it says no length, (\d+) frames were counted', t.reason[1])[1])
    assert abs(frames*1152-2*SR)<4*1152 and '-i in.mp3 -c copy out.mp3' in t.remedy[1]
    assert t.reason[2].startswith('2 Ogg files')
    assert verify_audio(tmp_path).columns.tolist()==['file','reason','remedy'] and len(verify_audio(tmp_path))==1

def test_remarks_on_channels(tmp_path):
    x = noise(1., sr=16000)
    sounds = dict(antiphase=[x,-x], half=[x,.99*x], left=[x,0*x], faint=[x,.001*x], silent=[0*x,0*x], same=[x,x], other=[x,noise(1., sr=16000, seed=1)], mono=[x], off=[0*x])
    for name,channels in sounds.items(): sf.write(tmp_path/f'{name}.wav', np.stack(channels, 1), 16000, subtype='FLOAT')
    t = verify_audio(tmp_path, remarks=True).assign(name=lambda t: [Path(o).stem for o in t.file]).set_index('name')
    assert set(t.index)=={'antiphase','left','faint','silent','off'} and t.readable.all()
    assert 'cancel each other' in t.reason['antiphase'] and "channel='loudest'" in t.remedy['antiphase']
    for o in ('left','faint'): assert t.reason[o].startswith('channel 1 of 2 is silent')
    for o in ('silent','off'): assert t.reason[o].startswith('nothing but silence')

def test_amr_has_the_samples_that_ffmpeg_decodes(tmp_path):
    "Frames of random bits: any bits are a sound"
    av = pytest.importorskip('av')
    rng = np.random.default_rng(0)
    fn = tmp_path/'a.amr'
    fn.write_bytes(b'#!AMR\n'+b''.join(b'\x3c'+rng.bytes(31) for _ in range(150)))
    with av.open(str(fn)) as c: want = np.concatenate([o.to_ndarray().reshape(-1) for o in c.decode(audio=0)])
    if want.dtype!=np.float32: want = want/np.float32(2**(8*want.itemsize-1))
    clip = Clip(fn, 8000)
    assert clip.n==len(want)==150*160 and np.abs(clip.read()-want).max()<1e-6 and rms(want)>.01
    windows_are_cut_from_the_whole(fn, n=1600, tol=1e-3)
    assert get_audio_files(tmp_path)==[fn] and verify_audio([fn], whole=True).empty
