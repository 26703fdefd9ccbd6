"""Seven more labelled tasks, from free Debian packages of which the pool holds nothing: pitch, chord, rhythm, tempo, speaker, word, language.

    python -m benchmarks.more_tasks OUT [--tasks "pitch chord"] [--check]     # or python more_tasks.py OUT; Debian or Ubuntu, 180 MB of downloads, minutes

Writes OUT/tasks/NAME/*.flac (16 kHz mono, 0.5 to 4 s) and OUT/tasks/NAME.csv (path relative to OUT, label, split = train/valid/test, group).
Seeded: the same packages give the same clips.
Sound fonts and the dialogue of a game are downloaded with `apt-get download` and opened under OUT/debs, not installed. The synthesisers have to be installed:

    apt-get install libfluidsynth3 espeak-ng flite festival festvox-{ca-ona-hts,czech-dita,czech-krb,czech-machac,czech-ph}
    apt-get install festvox-{italp16k,itapc16k,kdlpc16k,suopuhe-lj,suopuhe-mv}

What is not to be had is named and left out: a font, a voice, or the task that needs it.

- pitch: 36 notes (MIDI 36-71); chord: six qualities, roots C4-F4, any inversion; group = font and instrument; test: instruments and a font not in train
- rhythm: eight drum patterns at 80-160 beats a minute; tempo: five tempi of three patterns; group = font and kit; test: a font not in train
- speaker: actors of an adventure game (11 kHz MP3); group = dialogue; test: later dialogues of the same actors
- word: 16 words that many languages share; group = voice; test: voices not in train, most of other synthesisers or languages
- language: numbers spoken in eight languages by espeak-ng; group = voice; test: voices not in train
"""
import ctypes, io, re, shutil, struct, subprocess, tempfile, zlib
from collections import Counter, defaultdict
from pathlib import Path
import numpy as np, pandas as pd, soundfile as sf, soxr
from fastcore.script import call_parse, store_true

SR = 16000
FONTS = dict(csound='csound-soundfont', general='minuet-data', opl3='opl3-soundfont', timgm='timgm6mb-soundfont')
TOOLS = {'espeak-ng':'espeak-ng', 'flite':'flite', 'festival':'festival', 'libfluidsynth.so.3':'libfluidsynth3'}
SPLITS = 'train','valid','test'

class Missing(Exception): "A package or tool that is not there; the message says which and how to get it"

class Packages:
    "Debian packages, downloaded and opened under a folder, once"
    def __init__(self, path): self.path = path.resolve()
    def __call__(self,
        pkg:str,     # name of the package
        pattern:str, # a file of it, as for `rglob`
    )->Path: # the file
        dest = self.path/pkg
        if not dest.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            if not list(self.path.glob(pkg+'_*.deb')): subprocess.run(['apt-get','download','-qq',pkg], cwd=self.path, stderr=subprocess.DEVNULL)
            debs = list(self.path.glob(pkg+'_*.deb'))
            if not debs: raise Missing(f'package {pkg}: not to be had (apt-get update?)')
            subprocess.run(['dpkg','-x',debs[0],dest], check=True)
        res = [f for f in sorted(dest.rglob(pattern)) if not f.is_symlink()]
        if not res: raise Missing(f'package {pkg}: no {pattern} in it')
        return res[0]

def need(
    tool:str, # command, of `TOOLS`
):
    "Raise where a command is missing"
    if not shutil.which(tool): raise Missing(f'{tool} is not installed: apt-get install {TOOLS[tool]}')

def fit(
    x:np.ndarray, # wave (samples,) or (samples, channels), any level
    sr:int,       # its sample rate, hertz
    rng,          # draws level and onset
    secs:float=4, # at most
)->np.ndarray: # float32 at 16 kHz, peak at -1 to -19 dB, after 0-150 ms of silence; half a second at least
    x = np.asarray(x, np.float32)
    if x.ndim==2: x = x.mean(1)
    x = np.pad(soxr.resample(x, sr, SR), (int(SR*rng.uniform(0, .15)),0))[:int(SR*secs)]
    x = np.pad(x, (0,max(0, SR//2-len(x))))
    return x*10**(-rng.uniform(1, 19)/20)/max(abs(x).max(), 1e-6)

# Notes, chords and drums

class Synth:
    "A sound font played by libfluidsynth at 48 kHz, without reverb and chorus"
    sr = 48000
    def __init__(self, font):
        try: self.lib = ctypes.CDLL('libfluidsynth.so.3')
        except OSError: raise Missing(f"libfluidsynth is not installed: apt-get install {TOOLS['libfluidsynth.so.3']}")
        for o in 'new_fluid_settings','new_fluid_synth': getattr(self.lib, o).restype = ctypes.c_void_p
        s = ctypes.c_void_p(self.lib.new_fluid_settings())
        for k,v in {'synth.sample-rate':self.sr, 'synth.gain':.3}.items(): self.lib.fluid_settings_setnum(s, k.encode(), ctypes.c_double(v))
        for k in 'reverb','chorus': self.lib.fluid_settings_setint(s, f'synth.{k}.active'.encode(), 0)
        self.synth = ctypes.c_void_p(self.lib.new_fluid_synth(s))
        if self.lib.fluid_synth_sfload(self.synth, str(font).encode(), 1)<0: raise Missing(f'{font}: libfluidsynth cannot read it')

    def __call__(self,
        notes:list,   # (start in seconds, MIDI key, velocity 1-127, duration in seconds)
        secs:float,   # of the result
        program:int,  # General MIDI instrument 0-127, or drum kit
        drum=False,   # a kit
        bend:float=0, # semitones off, -2 to 2
    )->np.ndarray: # (samples,) at 48 kHz
        chan,f = 9 if drum else 0,self.lib
        f.fluid_synth_system_reset(self.synth)
        f.fluid_synth_program_change(self.synth, chan, program)
        f.fluid_synth_pitch_bend(self.synth, chan, int(8192+4096*bend))
        events = sorted([(t,1,k,v) for t,k,v,d in notes]+[(t+d,0,k,v) for t,k,v,d in notes])
        res,i = np.zeros((int(secs*self.sr),2), np.float32),0
        for t,on,k,v in [*events,(secs,0,0,0)]:
            n = min(int(t*self.sr), len(res))-i
            if n>0:
                p = res.ctypes.data_as(ctypes.c_void_p)
                f.fluid_synth_write_float(self.synth, n, p, 2*i, 2, p, 2*i+1, 2); i += n
            f.fluid_synth_noteon(self.synth, chan, k, int(v)) if on else f.fluid_synth_noteoff(self.synth, chan, k)
        return res.mean(1)

PROGRAMS = dict( # instruments of General MIDI; no program stands in two splits
    train=[0,4,11,16,19,21,24,27,40,42,48,52,56,60,65,68,73,80], valid=[5,20,22,26,41,66,72,75], test=[6,12,25,46,57,61,64,71,74,81])
PLAYED = dict(train=['csound','general','opl3'], valid=['csound','general','opl3'], test=['timgm'])
KITS = dict(train=[('csound',o) for o in (0,24,32,127)]+[('general',o) for o in (0,1,8,16,24,26,32,40)], valid=[('opl3',0),('general',25),('csound',16)],
    test=[('timgm',o) for o in (0,8,16,24,25,32,40)])
CHORDS = dict(maj=(0,4,7), min=(0,3,7), dim=(0,3,6), aug=(0,4,8), sus4=(0,5,7), dom7=(0,4,7,10))
DRUMS = dict( # kick, snare, hat; x = loud, o = soft; 16 steps a bar, or 12
    rock=('x.....x.x.......','....x.......x...','x.o.x.o.x.o.x.o.'), house=('x...x...x...x...','....x.......x...','..x...x...x...x.'),
    bossa=('x..xx..xx..xx..x','x..x..x...x..x..','oooooooooooooooo'), reggae=('........x.......','........x.......','..x.x.x...x.x.x.'),
    waltz=('x...........','....x...x...','x.o.x.o.x.o.'), swing=('x.....x.....','...o.....o..','x..x.ox..x.o'),
    breaks=('x.x.......xx....','....x..o.o..x..o','x.x.x.x.x.x.x.x.'), march=('x...x...x...x...','xooxxoxoxooxxoxx','........x.......'))
TEMPI,STRAIGHT = (60,80,107,143,190),('rock','house','breaks')

def fonts(pkgs):
    "The sound fonts that can be had, loaded"
    res = {}
    for k,p in FONTS.items():
        try: res[k] = Synth(pkgs(p, '*.sf2'))
        except Missing as e:
            if 'libfluidsynth is not' in str(e): raise
            print(f'  left out: {e}')
    return res

def instrument(rng, split, synths):
    "An instrument of a split: font, program"
    have = [o for o in PLAYED[split] if o in synths]
    if not have: raise Missing(f'no sound font for {split}')
    return str(rng.choice(have)),int(rng.choice(PROGRAMS[split]))

def notes(rng, keys):
    "Keys struck together, not quite at once and not equally loud; held for a while"
    vel,dur = rng.integers(50, 120),rng.uniform(.5, 1.6)
    return [(.01*rng.random(), int(k), np.clip(vel+rng.integers(-10, 11), 30, 127), dur) for k in keys]

def tonal(rng, pkgs, classes, n, keys):
    "Rows of a task of notes that sound together"
    synths = fonts(pkgs)
    for split,m in zip(SPLITS, n):
        for c in classes:
            for _ in range(m):
                font,prog = instrument(rng, split, synths)
                x = synths[font](notes(rng, keys(c)), rng.uniform(.8, 2.2), prog, bend=rng.uniform(-.2, .2))
                yield c,split,f'{font}_p{prog:03d}',fit(x, Synth.sr, rng)

def pitch(rng, pkgs): return tonal(rng, pkgs, range(36, 72), (24,5,11), lambda c: [c])

def chord(rng, pkgs):
    def keys(c):
        ks = list(CHORDS[c])
        for _ in range(rng.integers(len(ks))): ks = [*ks[1:],ks[0]+12]
        return rng.integers(60, 66)+np.array(ks)
    return tonal(rng, pkgs, CHORDS, (130,25,60), keys)

def loop(rng, name, bpm, secs):
    "Notes of a drum pattern that begins anywhere in the bar, each part on a drum drawn for it, some hits left out"
    kit = [rng.choice(o) for o in ([35,36], [37,38,39,40], [42,44,46,51,54,70])]
    step = 60/bpm/(len(DRUMS[name][0])//(3 if name=='waltz' else 4))
    res,first = [],int(rng.integers(16))
    for i in range(int(secs/step)+1):
        for key,part in zip(kit, DRUMS[name]):
            hit = part[(i+first)%len(part)]
            if hit=='.' or rng.random()<.08: continue
            vel = (105 if hit=='x' else 60)+rng.integers(-15, 16)
            res.append((max(0, i*step+rng.normal(0, .004)), int(key), vel, .1))
    return res

def drums(rng, pkgs, classes, n, style):
    "Rows of a task of drum loops"
    synths = fonts(pkgs)
    for split,m in zip(SPLITS, n):
        kits = [k for k in KITS[split] if k[0] in synths]
        if not kits: raise Missing(f'no drum kit for {split}')
        for c in classes:
            for _ in range(m):
                font,prog = kits[rng.integers(len(kits))]
                name,bpm = style(c)
                yield c,split,f'{font}_d{prog:03d}',fit(synths[font](loop(rng, name, bpm, 4), 4, prog, drum=True), Synth.sr, rng)

def rhythm(rng, pkgs): return drums(rng, pkgs, DRUMS, (100,20,50), lambda c: (c, rng.uniform(80, 160)))
def tempo(rng, pkgs): return drums(rng, pkgs, TEMPI, (120,25,60), lambda c: (str(rng.choice(STRAIGHT)), c*rng.uniform(.97, 1.03)))

# Speech

def dialogue(
    data:bytes, # queen.1c of flight-of-the-amazon-queen, as ScummVM's tools rebuilt it
)->dict: # character → [(dialogue, MP3)], in the order of the game
    "Who says what: a file NNxxxxPn.SB is a sentence of conversation NN, and *.DOG say whose conversation it is"
    entries = [struct.unpack('>12sxII', data[p:p+21]) for p in range(15, 15+21*struct.unpack('>H', data[13:15])[0], 21)]
    entries = [(k.rstrip(b'\0 ').decode('latin1'), data[o:o+n]) for k,o,n in entries]
    who = {f"{struct.unpack('>h', v[24:26])[0]:02d}":re.match('[A-Z]+', k)[0] for k,v in entries if k.endswith('.DOG')}
    res = defaultdict(list)
    for k,v in sorted(entries):
        m = re.fullmatch(r'((\d\d)[0-9A-F]{4})([JP])\w\.SB', k)
        if m: res['JOE' if m[3]=='J' else who.get(m[2])].append((m[1]+m[3],v))
    res.pop(None, None)
    return res

def speaker(rng, pkgs, n=22, most=60):
    "The `n` characters who say most, each of their dialogues in one split, the last ones in test"
    lines = dialogue(pkgs('flight-of-the-amazon-queen', 'queen.1c').read_bytes())
    for who,said in sorted(lines.items(), key=lambda o: -len(o[1]))[:n]:
        decoded = [(g,*sf.read(io.BytesIO(v))) for g,v in said]
        decoded = [o for o in decoded if .7<len(o[1])/o[2]<5]
        keep = sorted(rng.permutation(len(decoded))[:most])
        where = {g:SPLITS[(i>.62*len(keep))+(i>.75*len(keep))] for i,g in reversed([*enumerate(decoded[k][0] for k in keep)])}
        for g,x,sr in (decoded[k] for k in keep): yield who.lower(),where[g],g,fit(x, sr, rng)

WORDS = 'banana gorilla hotel kilo mama metro panda piano pilot radio salami sofa tango taxi tomato video'.split()
LANGUAGES = dict(czech='cs', german='de', finnish='fi', hungarian='hu', dutch='nl', polish='pl', swedish='sv', turkish='tr')
VARIANTS = dict( # voices of espeak-ng that do not speak in the pool
    train='Andrea Denis Diogo gustave Hugo Jacky linda marcelo Marco Mario max Michael michel miguel Mike Nguyen pablo paul f2 m2'.split(),
    valid='pedro quincy rob robert'.split(), test='steph steph2 Storm travis victor zac f4 m4 norbert sandro shelby grandpa'.split())
FESTIVAL = dict(train=['czech_machac','czech_dita','lp_diphone','suo_fi_lj_diphone'], valid=['upc_ca_ona_hts'],
    test=['ked_diphone','czech_ph','czech_krb','pc_diphone','hy_fi_mv_diphone'])
FLITE = dict(test=['rms','slt'])

def wav(cmd, text=None):
    "What a command writes to the file named last: wave, sample rate"
    with tempfile.NamedTemporaryFile(suffix='.wav') as f:
        subprocess.run([*map(str, cmd),f.name], input=text, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return sf.read(f.name, dtype='float32')

def espeak(rng, text, lang, variant):
    need('espeak-ng')
    return wav(['espeak-ng','-v',f'{lang}+{variant}','-s',rng.integers(120, 200),'-p',rng.integers(30, 70),text,'-w'])

def flite(rng, text, voice):
    need('flite')
    return wav(['flite','-voice',voice,'--setf',f'duration_stretch={rng.uniform(.8, 1.3):.2f}','-t',text,'-o'])

def festival(rng, text, voice):
    need('festival')
    with tempfile.NamedTemporaryFile(suffix='.wav') as f:
        scheme = f"(begin (voice_{voice}) (Parameter.set 'Duration_Stretch {rng.uniform(.8, 1.3):.2f})"
        scheme += f''' (utt.save.wave (SynthText "{text}") "{f.name}" 'riff))'''
        p = subprocess.run(['festival','--pipe'], input=scheme, text=True, capture_output=True)
        if p.returncode or not Path(f.name).stat().st_size: raise Missing(f'festival has no voice {voice} (apt-cache search festvox)')
        return sf.read(f.name, dtype='float32')

def trim(x, sr):
    "Without the silence around it"
    on = np.flatnonzero(abs(x)>.03*abs(x).max())
    return x[max(0, on[0]-sr//50):on[-1]+sr//20]

def word(rng, pkgs):
    english = 'en-us','en-gb','en-gb-x-rp','en-gb-scotland','en-029'
    voices = [(s,f'espeak_{v}',m,lambda w,v=v: espeak(rng, w, rng.choice(english), v)) for s,m in zip(SPLITS, (2,1,1)) for v in VARIANTS[s]]
    voices += [(s,f'festival_{v}',2,lambda w,v=v: festival(rng, w, v)) for s in SPLITS for v in FESTIVAL[s]]
    voices += [('test',f'flite_{v}',2,lambda w,v=v: flite(rng, w, v)) for v in FLITE['test']]
    for split,group,m,say in voices:
        try:
            for w in WORDS*m:
                x,sr = say(w); yield w,split,group,fit(trim(x, sr), sr, rng, 2.5)
        except Missing as e: print(f'  left out: {group}: {e}')

def language(rng, pkgs):
    need('espeak-ng')
    for split,m in zip(SPLITS, (5,4,3)):
        for v in VARIANTS[split]:
            for name,lang in [*LANGUAGES.items()]*m:
                x,sr = espeak(rng, ' '.join(str(o) for o in rng.integers(11, 10000, 3)), lang, v)
                start = int(rng.uniform(0, max(0, len(x)-3*sr)))
                yield name,split,f'espeak_{v}',fit(trim(x[start:start+3*sr], sr), sr, rng)

TASKS = pitch,chord,rhythm,tempo,speaker,word,language

def build(
    task,          # one of `TASKS`
    out:Path,      # folder
    seed:int=0,    # other clips
)->pd.DataFrame: # path, label, split, group
    "Write a task's clips and its table; nothing where a package is missing"
    name,rows = task.__name__,[]
    shutil.rmtree(out/'tasks'/name, ignore_errors=True); (out/'tasks'/f'{name}.csv').unlink(missing_ok=True)
    (out/'tasks'/name).mkdir(parents=True)
    for label,split,group,x in task(np.random.default_rng([seed, zlib.crc32(name.encode())]), Packages(out/'debs')):
        if np.sqrt((x**2).mean())<1e-3: print(f'  left out: {label} by {group} is silent'); continue
        path = f'tasks/{name}/{split}_{len(rows):04d}_{group}_{label}.flac'
        sf.write(out/path, x, SR, subtype='PCM_16'); rows.append((path,label,split,group))
        if len(rows)%200==0: print(f'  {len(rows)} clips', flush=True)
    if not rows: raise Missing('nothing could be made')
    df = pd.DataFrame(rows, columns=['path','label','split','group'])
    df.to_csv(out/'tasks'/f'{name}.csv', index=False)
    return df

def measure(
    df:pd.DataFrame, # of `build`
    out:Path,        # its folder
)->dict: # sizes, loudness, and how far the most frequent class and logistic regression on mean + std of log-mels get on test
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from slicer_fastai.audio.spectrogram import LogMel
    import torch
    mel,waves = LogMel(),[sf.read(out/o, dtype='float32')[0] for o in df.path]
    specs = [mel(torch.from_numpy(x)[None])[0] for x in waves]
    f = np.stack([torch.cat([s.mean(-1), s.std(-1)]).numpy() for s in specs])
    y,tr,te = df.label.astype(str).values,(df.split=='train').values,(df.split=='test').values
    acc = make_pipeline(StandardScaler(), LogisticRegression(C=.1, max_iter=2000)).fit(f[tr], y[tr]).score(f[te], y[te])
    n,g = df.split.value_counts(),df.groupby('split').group
    secs,level = [len(x)/SR for x in waves],[20*np.log10(np.sqrt((x**2).mean())) for x in waves]
    return dict(classes=df.label.nunique(), clips='/'.join(str(n[s]) for s in SPLITS), groups='/'.join(str(g.nunique()[s]) for s in SPLITS),
        shared=len(set(df.group[tr])&set(df.group[te])), smallest=min(Counter(y[te]).values()),
        secs=f'{min(secs):.1f}-{max(secs):.1f}', dB=f'{min(level):.0f} to {max(level):.0f}',
        logmel=f'{100*acc:.1f}', majority=f'{100*(y[te]==Counter(y[tr]).most_common(1)[0][0]).mean():.1f}')

@call_parse
def main(
    out:Path,          # folder for debs/ and tasks/
    tasks:str='',      # only these, with spaces between
    seed:int=0,        # other clips
    check:store_true=False, # also print sizes and a baseline
):
    "Build labelled tasks from free Debian packages"
    res,out = {},Path(out)
    for t in TASKS:
        if tasks and t.__name__ not in tasks.split(): continue
        print(t.__name__, flush=True)
        try: df = build(t, out, seed)
        except Missing as e: print(f'  task left out: {e}'); continue
        print(f'  {len(df)} clips, {df.label.nunique()} classes', flush=True)
        if check: res[t.__name__] = measure(df, out); print('  ', res[t.__name__], flush=True)
    if res: print(pd.DataFrame(res).T.to_string())
