"The real sounds in the package: every one with author, page and licence, small, readable, and shipped"
from conftest import *
import re, subprocess, sys
import soundfile as sf

root = Path(__file__).parents[1]
table = pd.read_csv(real_sounds()/'real_sounds.csv')
sounds = get_audio_files(real_sounds())

def test_every_sound_has_its_row_and_every_row_its_sound():
    assert sorted(str(o.relative_to(real_sounds()).as_posix()) for o in sounds)==sorted(table.path)
    assert (table.label==table.path.str.split('/').str[0]).all() and 8<=table.label.nunique()<=10
    assert table.label.value_counts().min()>=6

def test_authors_sources_and_licences():
    assert (table.licence=='CC0-1.0').all()
    assert table.author.str.strip().str.len().gt(1).all() and table.year.between(2000, 2016).all()
    assert table.source.str.fullmatch(r'https://freesound\.org/people/[^/ ]+/sounds/\d+/').all()
    assert table.source.is_unique, 'two clips of one recording'

def test_they_are_small_and_sound():
    assert sum(o.stat().st_size for o in real_sounds().rglob('*') if o.is_file())<1.5e6
    for o in sounds:
        x,sr = sf.read(o)
        assert sr==22050 and x.ndim==1 and .1<len(x)/sr<=4 and abs(x).max()>.2 and np.isfinite(x).all(), o.name

def test_an_unknown_kind_is_named():
    assert len(get_audio_files(real_sounds('bell')))==6
    with pytest.raises(ValueError, match="no kind 'owl'.*bell, cymbal"): real_sounds('owl')

def test_the_wheel_holds_them():
    "setup.py's patterns match every file in the folder"
    patterns = re.findall(r"'(sounds/[^']+)'", (root/'setup.py').read_text())
    package = real_sounds().parent
    shipped = {o for p in patterns for o in package.glob(p)}
    assert shipped=={o for o in real_sounds().rglob('*') if o.is_file() and '__pycache__' not in str(o)}
