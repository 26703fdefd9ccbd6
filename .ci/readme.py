"Render README.md from nbs/index.ipynb with nbconvert (plain pip, no Quarto). `--check`: fail if README.md is not what it would write."
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).parents[1]

def render():
    "README.md's text and its pictures {path: bytes}"
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    nb.metadata['language_info'] = dict(name='python')
    nb.cells = [c for c in nb.cells if not re.match(r'#\|\s*hide', c.source)]
    for c in nb.cells:                                        # tables as pictures of text go; tables and images stay
        for o in c.get('outputs', []):
            if any(k.startswith('image/') for k in o.get('data', {})): o.data.pop('text/plain', None)
        c['outputs'] = [o for o in c.get('outputs', []) if o.get('output_type')!='stream' and set(o.get('data', {}))-{'text/plain'}] if c.cell_type=='code' else []
        if c.cell_type!='code': del c['outputs']
    text,res = MarkdownExporter().from_notebook_node(nb, resources=dict(unique_key='index', output_files_dir='nbs/images'))
    text = re.sub(r'<td>[^<]*<audio.*?</audio>[^<]*</td>', '<td>▶ in the notebook</td>', text, flags=re.S)
    text = re.sub(r'<style.*?</style>|<audio.*?</audio>|<div[^>]*>|</div>', '', text, flags=re.S)        # players stay in the notebook
    return re.sub(r'\n{3,}', '\n\n', text).strip()+'\n', res['outputs']

text,pics = render()
dead = [o for o in re.findall(r'\]\((?!https?:|#)([^)#]+)', text) if not (root/o).exists() and o not in pics]
if dead: sys.exit(f'README.md would point to what is not there: {", ".join(dead)}')
if '--check' in sys.argv:
    ok = (root/'README.md').read_text()==text and all((root/k).exists() and (root/k).read_bytes()==v for k,v in pics.items())
    sys.exit(0 if ok else 'README.md is not rendered from nbs/index.ipynb: run python .ci/readme.py')
(root/'nbs/images').mkdir(exist_ok=True)
for k,v in pics.items(): (root/k).write_bytes(v)
(root/'README.md').write_text(text)
