"Small trees in exactly the layout of public data sets: a maker each, of files that are links to a few sounds"
from fastai.basics import *
import soundfile as sf

class Maker:
    "Writes below `root`; sounds are hard links to one of four, so that labels can be told apart"
    def __init__(self, root):
        self.root,self.src = Path(root),Path(root)/'.src'
        self.src.mkdir(parents=True); rng = np.random.default_rng(0)
        for e in ('wav','flac','au'):
            for i,k in enumerate((1,4,16,64)):
                x = np.convolve(rng.normal(size=4000), np.ones(k)/k, 'same'); sf.write(self.src/f'{i}.{e}', .3*x/abs(x).max(), 16000)
    def sound(self, fn, i):
        fn = self.root/fn; fn.parent.mkdir(parents=True, exist_ok=True); os.link(self.src/f'{i%4}{fn.suffix}', fn)
    def text(self, fn, s): fn = self.root/fn; fn.parent.mkdir(parents=True, exist_ok=True); fn.write_text(s)

def commands(m, v):
    from slicer_fastai.use.tasks import command_words,ten_words
    d,lists = f'speech_commands_v0.0{v}',dict(validation=[], testing=[])
    for j,w in enumerate(command_words[v]):
        for i in range(4):
            m.sound(f'{d}/{w}/{i}a{j:02d}_nohash_0.wav', j)
            if i<2: lists[['validation','testing'][i]].append(f'{w}/{i}a{j:02d}_nohash_0.wav')
    for k,l in lists.items(): m.text(f'{d}/{k}_list.txt', '\n'.join(l)+'\n')
    for k in ('running_tap','white_noise'):
        fn = m.root/d/'_background_noise_'/f'{k}.wav'; fn.parent.mkdir(exist_ok=True); sf.write(fn, np.random.default_rng(1).normal(size=96000)*.1, 16000)
    for j,l in enumerate(['_silence_','_unknown_',*ten_words]):
        for i in range(2): m.sound(f'speech_commands_test_set_v0.0{v}/{l}/{i}.wav', command_words[v].index(l) if l in ten_words else 3)

def librispeech(m):
    head = ';ID  |SEX| SUBSET           |MINUTES| NAME\n14   | F | train-clean-360  | 25.03 | Kristin\n'
    m.text('LibriSpeech/SPEAKERS.TXT', head+''.join(f'{s}   | M | train-clean-100  | 25.10 | Name of\n' for s in (19,26,27,32)))
    for j,s in enumerate((19,26,27,32)):
        for i in range(8): m.sound(f'LibriSpeech/train-clean-100/{s}/{s}00{i//4}/{s}-{s}00{i//4}-{i:04d}.flac', j)

def voxceleb1(m):
    lines = []
    for j,s in enumerate(('id10001','id10270','id11251')):
        for i in range(5):
            fn = f'{s}/vid{i//2:08d}/{i+1:05d}.wav'; m.sound(f'VoxCeleb1/wav/{fn}', j); lines.append(f'{(1,1,1,2,3)[i]} {fn}')
    m.text('VoxCeleb1/iden_split.txt', '\n'.join(lines)+'\n')

def voxforge(m):
    for j,d in enumerate(('SpeechCorpus','de','es','fr','it','ru')):
        for s in ('anna-20100101-abc','anna-20110101-xyz','bob-20100101-def','anonymous-20100101-ghi','carl-20120101-jkl'):
            e = 'flac' if s[0]=='c' else 'wav'
            for i in range(2): m.sound(f'voxforge/{d}/Trunk/Audio/Main/16kHz_16bit/{s}/{e}/en{i:03d}.{e}', j)

def iemocap(m):
    for s in range(1, 6):
        rows = []
        for i,e in enumerate(('ang','hap','exc','neu','sad','fru','xxx')):
            u = f'Ses0{s}F_impro01_{"FM"[i%2]}00{i}'; m.sound(f'IEMOCAP_full_release/Session{s}/sentences/wav/Ses0{s}F_impro01/{u}.wav', i)
            rows.append(f'[{i}.2901 - {i+1}.2357]\t{u}\t{e}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n')
        m.text(f'IEMOCAP_full_release/Session{s}/dialog/EmoEvaluation/Ses0{s}F_impro01.txt', 
            '% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n'+'\n'.join(rows))

def nsynth(m):
    for k in ('train','valid','test'):
        t = {}
        for j,f in enumerate(('bass','brass','flute','guitar')):
            for i in range(2):
                n = f'{f}_acoustic_{i:03d}-060-100'; m.sound(f'nsynth/nsynth-{k}/audio/{n}.wav', j)
                t[n] = dict(note=i, note_str=n, instrument_str=f'{f}_acoustic_{i:03d}', instrument_family=j,
                            instrument_family_str=f, pitch=60, sample_rate=16000)
        m.text(f'nsynth/nsynth-{k}/examples.json', json.dumps(t))

def birds(m):
    for s,name in (('ff1010bird','ff1010bird_metadata_2018.csv'),('warblrb10k','warblrb10k_public_metadata_2018.csv')):
        ids = [f'{64000+i}' if s[0]=='f' else f'0a{i:02d}-4d' for i in range(10)]
        for i,n in enumerate(ids): m.sound(f'birds/{s}/wav/{n}.wav', i%2)
        m.text(f'birds/{s}/{name}', 'itemid,datasetid,hasbird\n'+''.join(f'{n},{s},{i%2}\n' for i,n in enumerate(ids)))

def tut2018(m):
    d,meta,sets = 'TUT-urban-acoustic-scenes-2018-development',[],dict(train=[], evaluate=[])
    for j,l in enumerate(('airport','bus','park')):
        for place in range(3):
            for i in range(2):
                f = f'audio/{l}-london-{place}-{i}-a.wav'; m.sound(f'{d}/{f}', j); meta.append(f'{f}\t{l}\tlondon-{place}\ta')
                sets['train' if place<2 else 'evaluate'].append(f'{f}\t{l}')
    m.text(f'{d}/meta.csv', 'filename\tscene_label\tidentifier\tsource_label\n'+'\n'.join(meta)+'\n')
    for k,v in sets.items(): m.text(f'{d}/evaluation_setup/fold1_{k}.txt', '\n'.join(v)+'\n')

def urbansound8k(m):
    rows = []
    for fold in range(1, 11):
        for i in range(4):
            f = f'{fold*10+i//2}-{i%2}-0-{i}.wav'; m.sound(f'UrbanSound8K/audio/fold{fold}/{f}', i%2)
            rows.append(f'{f},{fold*10+i//2},0.0,4.0,1,{fold},{i%2},{("siren","drilling")[i%2]}')
    m.text('UrbanSound8K/metadata/UrbanSound8K.csv', 'slice_file_name,fsID,start,end,salience,fold,classID,class\n'+'\n'.join(rows)+'\n')

def esc50(m):
    rows = []
    for fold in range(1, 6):
        for i in range(4):
            f = f'{fold}-{1000*fold+i}-A-{i%2}.wav'; m.sound(f'ESC-50-master/audio/{f}', i%2)
            rows.append(f'{f},{fold},{i%2},{("dog","rain")[i%2]},True,{1000*fold+i//2},A')
    m.text('ESC-50-master/meta/esc50.csv', 'filename,fold,target,category,esc10,src_file,take\n'+'\n'.join(rows)+'\n')

def fsd50k(m):
    labels = ['Bark','Rain','Speech']; g = 'FSD50K/FSD50K.ground_truth'
    m.text(f'{g}/vocabulary.csv', ''.join(f'{i},{l},/m/0{i}\n' for i,l in enumerate(labels)))
    for k in ('dev','eval'):
        rows = []
        for i in range(12):
            n = (0 if k=='dev' else 500)+i; m.sound(f'FSD50K/FSD50K.{k}_audio/{n}.wav', i)
            l = labels[i%3] if i%4 else f'"{labels[i%3]},{labels[(i+1)%3]}"'
            rows.append(f'{n},{l},/m/00'+(f',{"val" if i%4==3 else "train"}' if k=='dev' else ''))
        m.text(f'{g}/{k}.csv', 'fname,labels,mids'+(',split' if k=='dev' else '')+'\n'+'\n'.join(rows)+'\n')

def gtzan(m):
    lists = dict(train=[], valid=[], test=[])
    for j,g in enumerate(('blues','jazz','rock')):
        for i in range(5): m.sound(f'GTZAN/genres/{g}/{g}.0000{i}.au', j); lists['train' if i<3 else ('valid','test')[i-3]].append(f'{g}/{g}.0000{i}.wav')
    for k,v in lists.items(): m.text(f'GTZAN/{k}_filtered.txt', '\n'.join(v)+'\n')

def all_trees(root):
    "Every data set below one folder"
    m = Maker(root)
    for v in (1,2): commands(m, v)
    for f in (librispeech, voxceleb1, voxforge, iemocap, nsynth, birds, tut2018, urbansound8k, esc50, fsd50k, gtzan): f(m)
    return Path(root)
