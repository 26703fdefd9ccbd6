"Tables of files and places: every encoding and separator, no row and no class lost; places in recordings; splits by recording"
from conftest import *
import soundfile as sf
from slicer_fastai.data.tables import read_cells, read_names, read_table

def loaders(df, path='.', **kwargs): return SlicerDataLoaders.from_df(df, path, **{'bs':4, 'num_workers':0, 'device':'cpu', **kwargs})

def from_csv(path, **kwargs): return SlicerDataLoaders.from_csv(path, **{'bs':4, 'num_workers':0, 'device':'cpu', **kwargs})

def everything(dls): return [ds.clips([i])[0] for ds in (dls.train_ds, dls.valid_ds) for i in range(len(ds))]
def labels_of(dls): return [dls.vocab[ds[i][1]] for ds in (dls.train_ds, dls.valid_ds) for i in range(len(ds))]

@pytest.fixture
def few(sounds, tmp_path):
    "A folder with a table's place, and 24 files as text"
    return tmp_path,[str(o) for o in get_audio_files(sounds)[:24]]

@pytest.mark.parametrize('sep', [',',';','\t'])
@pytest.mark.parametrize('encoding', ['utf-8','utf-8-sig','utf-16','utf-16-le','latin-1'])
def test_any_encoding_and_separator(few, sep, encoding):
    d,fs = few
    rows = [f'{f}{sep}{"Käuzchen" if i%2 else "Uhu"}' for i,f in enumerate(fs)]
    (d/'labels.csv').write_bytes('\n'.join([f'file{sep}label', *rows]).encode(encoding))
    dls = from_csv(d, label_col='label')
    assert list(dls.vocab)==['Käuzchen','Uhu'] and sorted(map(str, everything(dls)))==sorted(fs)

def test_encoding_separator_and_header_can_be_named(few):
    d,fs = few
    rows = [f'{f}|{"жук" if i%2 else "оса"}' for i,f in enumerate(fs)]
    (d/'labels.csv').write_bytes('\n'.join(['made by hand', 'name|what', *rows]).encode('cp1251'))
    dls = from_csv(d, label_col='what', sep='|', encoding='cp1251', header=1)
    assert list(dls.vocab)==['жук','оса'] and len(everything(dls))==24
    with pytest.raises(ValueError, match='labels.csv.*encoding='): from_csv(d, encoding='utf-8')
    with pytest.raises(ValueError, match='labels.csv.*encoding='): from_csv(d, encoding='none-such')

def test_an_encoding_that_is_guessed_is_said(few, capsys):
    d,fs = few
    (d/'labels.csv').write_bytes('\n'.join(['file,label', *(f'{f},é' for f in fs)]).encode('latin-1'))
    from_csv(d, label_col='label')
    assert 'labels.csv: read as cp1252' in capsys.readouterr().out

@pytest.mark.parametrize('ending,sep', [('csv',','), ('tsv','\t'), ('txt',None), ('txt','\t')])
def test_the_first_row_of_a_list_without_header_is_read(few, ending, sep):
    d,fs = few
    (d/f'list.{ending}').write_text('\n'.join(f'{f}{sep}x' if sep else f for f in fs))
    dls = loaders(d/f'list.{ending}', label_col=1 if sep else None)
    assert sorted(map(str, everything(dls)))==sorted(fs)

def test_header_given_is_obeyed(few):
    d,fs = few
    (d/'labels.csv').write_text('\n'.join(fs))
    assert len(everything(from_csv(d, header=0)))==23 and len(everything(from_csv(d, header=None)))==24

def test_classes_that_pandas_takes_for_missing(few):
    d,fs = few
    kinds = ['na','NA','None','null','nan','n/a']
    (d/'labels.csv').write_text('\n'.join(['file,label', *(f'{f},{kinds[i%6]}' for i,f in enumerate(fs))]))
    dls = from_csv(d, label_col='label', valid_idx=range(6))
    assert list(dls.vocab)==sorted(kinds) and len(labels_of(dls))==24

def test_an_empty_label_is_named_by_its_row(few):
    d,fs = few
    (d/'labels.csv').write_text('\n'.join(['file,label', *(f'{f},{"" if i==3 else "x"}' for i,f in enumerate(fs))]))
    with pytest.raises(ValueError, match='clip 3 has no label'): from_csv(d, label_col='label')

def test_a_numeric_first_column(few):
    d,fs = few
    pd.DataFrame(dict(file=fs, label=['a','b']*12)).to_csv(d/'labels.csv')                         # with pandas' index in front
    assert sorted(map(str, everything(from_csv(d, label_col='label'))))==sorted(fs)
    pd.DataFrame({0:range(24), 1:fs}).to_csv(d/'labels.csv', index=False, header=False)
    assert sorted(map(str, everything(from_csv(d))))==sorted(fs)

def test_names_that_are_numbers_keep_their_zeros(sounds, tmp_path):
    for i,f in enumerate(get_audio_files(sounds)[:6]): (tmp_path/f'00{i}').write_bytes(f.read_bytes())
    (tmp_path/'labels.csv').write_text('id,label\n'+'\n'.join(f'00{i},x' for i in range(6)))
    assert from_csv(tmp_path, label_col=1).one_batch()[0].shape[0]==4

def test_labels_that_are_numbers_stay_in_order(few):
    d,fs = few
    (d/'labels.csv').write_text('\n'.join(['file,label', *(f'{f},{[1,2,10][i%3]}' for i,f in enumerate(fs))]))
    assert list(from_csv(d, label_col='label', valid_idx=range(6)).vocab)==[1,2,10]

def test_several_labels(few):
    d,fs = few
    tags = ['a; b','b','','c;a']*6
    pd.DataFrame(dict(file=fs, tags=tags)).to_csv(d/'labels.csv', index=False)
    dls = from_csv(d, label_col='tags', label_delim=';', valid_idx=range(4))
    assert list(dls.vocab)==['a','b','c'] and dls.valid_ds.targets(range(4)).tolist()==[[1,1,0],[0,1,0],[0,0,0],[1,0,1]]
    wide = pd.DataFrame(dict(file=fs, **{k:[int(k in o) for o in tags] for k in 'abc'}))
    wide.to_csv(d/'wide.csv', index=False)
    for table in (wide, d/'wide.csv'):
        dls = loaders(table, label_col=list('abc'), valid_idx=range(4))
        assert dls.valid_ds.targets(range(4)).tolist()==[[1,1,0],[0,1,0],[0,0,0],[1,0,1]]
    two = pd.DataFrame(dict(file=fs, first=['a','b']*12, second=['b',None]*12))
    assert loaders(two, label_col=['first','second'], valid_idx=[0,1]).valid_ds.targets([0,1]).tolist()==[[1,1],[0,1]]
    learn = audio_learner(dls, 'slicer-small')
    learn.fine_tune(1)
    assert learn.get_preds()[0].shape==(4,3)

def test_broken_tables_are_named(few):
    d,fs = few
    for text,why in [('', 'is empty'), ('file,label\na.wav,x,y,z\n', 'more cells'), ('file,label\na.wav,x\nb.wav,x,y\n', 'is no table'),
                     ('file,"label\na.wav,x', 'EOF|no table')]:
        (d/'labels.csv').write_text(text)
        with pytest.raises(ValueError, match=f'labels.csv.*({why})'): from_csv(d)
    (d/'labels.csv').write_bytes(b'PK\x03\x04'+bytes(100))
    with pytest.raises(ValueError, match='labels.csv: is a spreadsheet'): from_csv(d)
    (d/'labels.parquet').write_bytes(b'no parquet')
    with pytest.raises(ValueError, match='labels.parquet'): loaders(d/'labels.parquet')

def test_what_is_wrong_with_the_rows_names_the_file(few):
    d,fs = few
    for rows,why in [([], '0 file'), ([fs[0]+',x'], '1 file'), ([f'{f},{"" if i==3 else "x"}' for i,f in enumerate(fs)], 'clip 3 has no label')]:
        (d/'labels.csv').write_text('\n'.join(['file,label', *rows]))
        with pytest.raises(ValueError, match=f'labels.csv: .*{why}'): from_csv(d, label_col='label')

def test_separators_at_the_ends_of_lines(few):
    d,fs = few
    (d/'labels.csv').write_text('\n'.join(['file,label', *(f'{f},x,' for f in fs)]))
    dls = from_csv(d, label_col='label')
    assert sorted(map(str, everything(dls)))==sorted(fs) and list(dls.vocab)==['x']

def test_names_that_are_not_utf8(tmp_path):
    assert read_names(b'a\xff.wav\nb.wav\n').file.map(os.fsencode).tolist()==[b'a\xff.wav',b'b.wav']

def test_valid_column_as_text(few):
    d,fs = few
    pd.DataFrame(dict(file=fs, v=['True','False']*12)).to_csv(d/'labels.csv', index=False)
    assert len(from_csv(d, valid_col='v').valid_ds)==12

# --- places ---

@pytest.fixture(scope='module')
def tones(tmp_path_factory):
    "Five recordings of 20 s; second i has the frequency 200·(i+1) Hz"
    d,sr = tmp_path_factory.mktemp('tones'),16000
    t = np.arange(20*sr)/sr
    for i in range(5): sf.write(d/f'{i}.wav', .3*np.sin(2*np.pi*200*(1+t//1)*t), sr, subtype='PCM_16')
    return d

def table(n=5, **columns): return pd.DataFrame(dict(filename=np.repeat([f'{i}.wav' for i in range(n)], 4), **columns))
def frequency(wave, sr=16000): return np.abs(np.fft.rfft(wave*np.hanning(len(wave)))).argmax()*sr/len(wave)

names = [dict(start='start', end='end', label='label'), dict(start='Begin Time (s)', end='End Time (s)', label='Annotation'),
         dict(start='onset', seconds='duration', label='species'), dict(start='start_ms', end='end_ms', label='class')]

@pytest.mark.parametrize('roles', names)
def test_places_are_found_by_the_names_of_columns(tones, capsys, roles):
    starts = np.tile([2.,5.,9.,15.], 5)
    unit = 1000 if 'ms' in roles['start'] else 1
    values = dict(start=starts*unit, end=(starts+1)*unit, seconds=1., label=np.tile(list('abcd'), 5))
    df = table(**{column:values[role] for role,column in roles.items()})
    dls = loaders(df, tones, level=None)
    said = capsys.readouterr().out
    assert said.count('\n')==1 and all(repr(o) in said for o in roles.values())
    assert list(dls.vocab)==list('abcd')
    for ds in (dls.train_ds, dls.valid_ds):
        for i in range(len(ds)):
            x,y = ds[i]
            second = dict(a=2,b=5,c=9,d=15)[dls.vocab[y]]
            assert abs(frequency(x[0].numpy())-200*(second+1))<15                                    # and not the middle of the file

def test_columns_of_places_can_be_given(tones):
    df = table(a=np.tile([2.,5.,9.,15.], 5), b=np.tile([3.,6.,10.,16.], 5), what='x')
    dls = loaders(df, tones, columns=dict(start='a', end='b', label='what'))
    assert {o.start for o in everything(dls)}=={2.,5.,9.,15.} and list(dls.vocab)==['x']
    assert len(everything(loaders(df, tones)))==20 and isinstance(everything(loaders(df, tones))[0], str)
    assert isinstance(everything(loaders(df.rename(columns=dict(a='start', b='end')), tones, places=False))[0], str)

def test_starts_without_ends_are_told(tones):
    with pytest.warns(UserWarning, match="starts .*'onset'.* whole files"): loaders(table(onset=1.), tones)

def test_impossible_places_are_named(tones):
    with pytest.raises(ValueError, match='1 places end before .* row 2'):
        loaders(table(start=1., end=[2,.5]+[2]*18, label='x'), tones)
    with pytest.raises(ValueError, match="row 3: start is 'soon'"):
        loaders(table(start=['1','1','soon']+['1']*17, end=2, label='x'), tones)

def test_short_places_are_heard_with_their_surroundings(tones):
    df = table(start=np.tile([0.,8.4,12.4,19.8], 5), end=np.tile([.2,8.6,12.6,20.], 5), label=np.tile(list('abcd'), 5))
    dls = loaders(df, tones, level=None)
    got = {o.label:(round(o.start, 4), round(o.seconds, 4)) for o in everything(dls)}
    assert got==dict(a=(0.,.95), b=(8.025,.95), c=(12.025,.95), d=(19.05,.95))                     # in the middle, as far as the recording reaches
    for i in range(len(dls.train_ds)):
        wave = dls.train_ds[i][0][0]
        assert abs(wave[:100]).max()>.1 and abs(wave[-100:]).max()>.1                                 # no silence at either end

def test_a_place_behind_the_end_is_told_and_not_moved(tones):
    df = table(start=[*[1.]*19,100.], end=[*[1.5]*19,100.5], label='x')
    dls = loaders(df, tones, valid_idx=[0])
    with pytest.warns(UserWarning, match='no sound at'):
        for i in range(len(dls.train_ds)):
            try: dls.train_ds[i]
            except SkipItemException: pass

def test_long_places_validate_with_all_their_windows(tones):
    dls = loaders(table(start=0., end=10., label=np.tile(list('ab'), 10)), tones, valid_idx=range(4))
    assert audio_learner(dls, 'slicer-small').dls.valid.one_batch()[0].shape[1]==11

# --- splits ---

def sides(dls): return [{str(getattr(o, 'name', o)) for o in ds.clips(range(len(ds)))} for ds in (dls.train_ds, dls.valid_ds)]

@pytest.mark.parametrize('with_places', [True,False])
def test_rows_of_a_file_are_on_one_side(tones, with_places):
    df = table(start=1., end=2., label='x') if with_places else table(label='x')
    for seed in range(5):
        a,b = sides(loaders(df, tones, label_col='label', seed=seed, valid_pct=.2))
        assert not a&b and len(b)==1
    a,b = sides(loaders(df, tones, label_col='label', split='random', valid_pct=.2))
    assert a&b
    with pytest.raises(ValueError, match="split='file'"): loaders(df, tones, split='file')

def test_rows_of_a_group_are_on_one_side(tones):
    df = table(start=1., end=2., label='x', group=np.repeat(list('ppqqq'), 4))
    a,b = sides(loaders(df, tones, valid_pct=.3))
    assert sorted(map(len, (a,b)))==[2,3]
    a,b = sides(loaders(df.rename(columns=dict(group='site')), tones, valid_pct=.3, columns=dict(group='site')))
    assert sorted(map(len, (a,b)))==[2,3]

def test_random_labels_are_not_learned_from_rows_of_one_file(sounds, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24): sf.write(tmp_path/f'{i}.wav', rng.normal(size=16000)*.1+.2*np.sin(np.arange(16000)*rng.uniform(.05, 2)), 16000)
    df = pd.DataFrame(dict(file=np.repeat([f'{i}.wav' for i in range(24)], 4), label=np.repeat(rng.permutation(list('ab')*12), 4)))
    def accuracy_of(**kwargs):
        dls = loaders(df, tmp_path, label_col='label', valid_pct=.25, bs=16, **kwargs)
        return float(audio_learner(dls, 'slicer-small').result())
    assert accuracy_of()<.85 and accuracy_of(split='random')>.9

def test_one_recording_asks_how_to_split(tones):
    with pytest.raises(ValueError, match="split='random'"): loaders(table(n=1, label='x'), tones, label_col='label')

def test_each_class_is_trained_on_if_recordings_allow_it(tones):
    df = table(start=np.tile([1.,2.,3.,4.], 5), end=5., label=[*'abca']*4+[*'bcdd'])
    dls = loaders(df, tones, valid_pct=.2)
    assert list(dls.vocab)==list('abcd')

# --- items ---

class Decoder:
    "As datasets ≥ 4 hands it out"
    def __init__(self, x, sr): self.d = dict(array=x, sampling_rate=sr)
    def __getitem__(self, k): return self.d[k]
    def get_all_samples(self): pass

class Column:
    "A column of datasets: a sequence, no list"
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]

def as_kinds(files):
    waves = [sf.read(f, dtype='float32') for f in files]
    yield 'arrays', waves
    yield 'dicts', [dict(array=x, sampling_rate=sr, path=None) for x,sr in waves]
    yield 'bytes', [dict(bytes=Path(f).read_bytes(), path=None) for f in files]
    yield 'paths', [dict(bytes=None, path=f) for f in files]
    yield 'decoders', [Decoder(x, sr) for x,sr in waves]
    yield 'column', Column([Decoder(x, sr) for x,sr in waves])
    yield 'tensors', [AudioTensor(torch.from_numpy(x)[None], sr=sr) for x,sr in waves]

def test_items_of_every_kind_are_the_same_clips(few):
    d,fs = few
    kind = [Path(o).parent.name for o in fs]
    want = SlicerDataLoaders.from_lists(d, fs, kind, valid_idx=range(3), bs=4, num_workers=0, device='cpu').valid.one_batch()
    for name,items in as_kinds(fs):
        for n in (0,2):
            got = SlicerDataLoaders.from_lists(d, items, kind, valid_idx=range(3), bs=4, num_workers=n, device='cpu').valid.one_batch()
            assert torch.allclose(got[0], want[0], atol=1e-4) and got[1].equal(want[1]), name

def test_an_array_without_its_rate_is_named(few):
    with pytest.raises(ValueError, match='item 0 is an array.*sr'): SlicerDataLoaders.from_lists('.', [np.zeros(9000)]*4)
    with pytest.raises(ValueError, match='item 1 is of type int'): SlicerDataLoaders.from_lists('.', ['a.wav',3])

@pytest.mark.parametrize('trained', ['files','labels','places','table'])
def test_test_dl_takes_anything(few, tones, trained):
    d,fs = few
    kw = dict(bs=4, num_workers=0, device='cpu')
    dls = dict(files=lambda: SlicerDataLoaders.from_lists(d, fs, windows=1, **kw), labels=lambda: SlicerDataLoaders.from_lists(d, fs, ['x']*24, **kw),
               table=lambda: loaders(pd.DataFrame(dict(file=fs, label='x')), label_col='label'),
               places=lambda: loaders(table(start=1., end=2., label='x'), tones))[trained]()
    want = dls.front.specs(fs[:3])
    for items in ([Path(o) for o in fs[:3]], fs[:3], L(fs[:3]), pd.DataFrame(dict(file=fs[:3])), [Clip(o) for o in fs[:3]],
                  [sf.read(o, dtype='float32') for o in fs[:3]]):
        got = first(dls.test_dl(items))[0]
        assert torch.allclose(got, want, atol=1e-4), type(items[0])
    one = first(dls.test_dl(pd.DataFrame(dict(file=[str(tones/'0.wav')], start=[5.], end=[6.]))))[0]
    assert torch.allclose(one, dls.front(dls.front.read(Clip(tones/'0.wav', start=5., seconds=1.))[None]), atol=1e-4)
    assert len(first(dls.test_dl(fs[0]))[0])==1

def test_test_dl_of_a_pack(few):
    d,fs = few
    pack_audio(Path(fs[0]).parent, d/'pack')
    dls = SlicerDataLoaders.from_pack(d/'pack', bs=4, num_workers=0, device='cpu', windows=1)
    assert torch.allclose(first(dls.test_dl(fs[:3]))[0], dls.front.specs(fs[:3]), atol=1e-4)

@pytest.mark.parametrize('make', [lambda fn: fn.write_bytes(b''), lambda fn: fn.write_bytes(b'PK\3\4xx'), lambda fn: fn.write_text('a\n"1'), lambda fn: fn.write_bytes(b'ab\0\0b')])
def test_errors_of_tables_escape_names(tmp_path, make):
    fn = tmp_path/'t\x1b[2J.csv'
    make(fn)
    with pytest.raises(ValueError) as e: read_table(fn)
    assert r't\x1b[2J.csv: ' in str(e.value) and '\x1b' not in str(e.value)
