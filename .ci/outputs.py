"Outputs of notebooks that should not be there: warnings in red, paths of a machine, progress bars that stand still, <NA> in tables. Exit 1 names them."
import json, re, sys
from pathlib import Path

paths = re.compile(r'(?<![\w.~])/(home|root|tmp|work|usr|opt|mnt|var|Users)/[\w.\-]+')

def faults(nb):
    for i,c in enumerate(json.loads(nb.read_text())['cells']):
        for o in c.get('outputs', []):
            text = ''.join(o.get('text', []))+''.join(''.join(v) for k,v in o.get('data', {}).items() if k.startswith('text/') and isinstance(v, (list,str)))
            text = re.sub(r'base64,[A-Za-z0-9+/=\s]+', '', text)
            if o.get('name')=='stderr': yield f'{nb}, cell {i}: {text[:100]!r} on stderr'
            elif o.get('output_type')=='error' or 'Warning:' in text: yield f'{nb}, cell {i}: an error or a warning'
            elif '<progress' in text or '█\r' in text: yield f'{nb}, cell {i}: a progress bar that stands still'
            elif '<NA>' in text or '&lt;NA&gt;' in text: yield f'{nb}, cell {i}: <NA> in a table'
            elif m := paths.search(text): yield f'{nb}, cell {i}: a path of this machine, {m.group(0)}'

if __name__=='__main__':
    bad = [f for nb in sorted(Path(sys.argv[1]).rglob('*.ipynb')) for f in faults(nb)]
    sys.exit('\n'.join(bad) or 0)
