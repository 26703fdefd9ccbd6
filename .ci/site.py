"""The site: notebooks by nbdev's processors, pages by smalldocs, into _site/. `python .ci/site.py [DEST]`; exit 1 names faults."""
import ast, re, shutil, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from latex2mathml.converter import convert
from fastcore.nbio import mk_cell, read_nb, write_nb
from nbdev.process import NBProcessor
from nbdev.processors import (FrontmatterProc, populate_language, strip_ansi, hide_line, rm_header_dash,
    clean_magics, hide_, strip_hidden_metadata)

root = Path(__file__).parents[1]
nbs = root/'nbs'

def public(src):
    "Names that a cell defines or patches in, with the first line of their docstrings"
    for o in ast.parse(src).body:
        if not isinstance(o, (ast.FunctionDef, ast.ClassDef)) or o.name.startswith('_'): continue
        patched = any(getattr(getattr(d, 'func', d), 'id', '')=='patch' for d in o.decorator_list)
        owner = ast.unparse(o.args.args[0].annotation)+'.' if patched and o.args.args and o.args.args[0].annotation else ''
        yield owner+o.name, (ast.get_docstring(o) or '').split('\n')[0]

def names(nb):
    "Public names that a notebook exports"
    return [n for c in nb.cells if c.cell_type=='code' and re.match(r'#\|\s*export\b', c.source) for n,_ in public(c.source)]

def show_exports(cell):
    "Cells that only set up leave the page; exported ones are shown, for the signature is the documentation"
    if cell.cell_type!='code': return
    d = cell.directives_
    if 'default_exp' in d or 'nbdev_export()' in cell.source: del cell['source']
    elif 'export' in d and all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(cell.source).body): del cell['source']

def head_exports(nb):
    "A heading for each public name: an anchor, an entry in the search and in the table of contents"
    for i,c in reversed(list(enumerate(nb.cells))):
        if c.cell_type!='code' or not re.match(r'#\|\s*export\b', c.source): continue
        told = [f'### {n} {{#{n}}}\n\n*{d}*' for n,d in public(c.source)]
        if told: nb.cells.insert(i, mk_cell('\n\n'.join(told), 'markdown'))

def link_names(text, where, here):
    "`KMix` → a link to where it is exported; links of README and of the repository → links of the site"
    text = re.sub(r'\]\((?:\.\./)?nbs/', ']('+('../' if '/' in here else ''), text)
    def one(m):
        page = where.get(m[1])
        up = '../'*here.count('/')
        return m[0] if page is None or page==here else f'[{m[0]}]({up}{page}#{m[1]})'
    return re.sub(r'(?<![\[`])`(\w+(?:\.\w+)?)`(?![`\]])', one, text)

def split_title(nb):
    "Title and subtitle become front matter; what stands below them in the same cell stays on the page"
    m = re.match(r'(# [^\n]+\n*(?:> [^\n]+\n*)*)(.*)', nb.cells[0].source, flags=re.S)
    if m and m[2].strip(): nb.cells[0].source = m[1]; nb.cells.insert(1, mk_cell(m[2], 'markdown'))

def write_maths(text):
    "$…$ and $$…$$ outside code → MathML, which browsers draw without a script from elsewhere"
    def one(m): return m[0] if m[1] is None else convert(m[2], display='block' if m[1]=='$$' else 'inline')
    return re.sub(r'```.*?```|`[^`\n]*`|(\$\$?)(?=[^\s$])([^$]+?)(?<=[^\s\\])\1', one, text, flags=re.S)

def process(dest, pages):
    "The notebooks of `pages`, processed, with pictures and settings of all, in folder `dest`"
    shutil.copytree(nbs, dest, ignore=shutil.ignore_patterns('*.ipynb', '.ipynb_checkpoints', '_proc'))
    shutil.copy(root/'CONTRIBUTING.md', dest)
    read = {f:read_nb(nbs/f) for f in pages}
    where = {n:f for f,nb in read.items() for n in names(nb)}
    procs = [FrontmatterProc, populate_language, strip_ansi, hide_line, rm_header_dash, show_exports, clean_magics, hide_,
             strip_hidden_metadata]
    for f,nb in read.items():
        head_exports(nb); split_title(nb)
        for c in nb.cells:
            if c.cell_type=='markdown': c.source = write_maths(link_names(c.source, where, f))
        nb = NBProcessor(nb=nb, procs=procs, rm_directives='quarto')
        nb.process()
        for c in nb.nb.cells[:1]: c.source = re.sub(r'^output-file:.*\n', '', c.source, flags=re.M)      # smalldocs keeps the notebooks' names
        write_nb(nb.nb, dest/f)

def all_pages():
    "The notebooks, relative to nbs/"
    return sorted(str(f.relative_to(nbs)) for f in nbs.rglob('*.ipynb') if '.ipynb_checkpoints' not in str(f))

def build(
    dest,       # folder of the site; written anew
    pages=None, # notebooks, relative to nbs/; default: all
)->list: # what smalldocs warned of
    "Process the notebooks and render the pages"
    from smalldocs.site import build as render
    dest,work = Path(dest),Path(dest).with_name(Path(dest).name+'_proc')
    for o in (dest,work): shutil.rmtree(o, ignore_errors=True)
    process(work, pages or all_pages())
    site = render(str(work), quiet=True)
    shutil.move(work/'_site', dest); shutil.rmtree(work)
    return list(site.warnings)

class Tags(HTMLParser):
    "A page's ids, what its tags refer to, and its pictures and players without source"
    def __init__(self, text):
        super().__init__()
        self.ids,self.refs,self.empty = set(),[],[]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        d = dict(attrs)
        self.ids |= {d.get('id'), d.get('name') if tag=='a' else None}
        if tag in ('a','link') and d.get('href'): self.refs.append((tag, d['href']))
        if tag in ('img','script','audio','source') and d.get('src'): self.refs.append((tag, d['src']))
        if tag in ('img','audio') and not d.get('src'): self.empty.append(tag)
        if tag=='source' and d.get('src') and self.empty[-1:]==['audio']: self.empty.pop()

def faults(
    site, # folder of the site
):
    "Dead links and anchors, missing pictures, players without source, pages that the index does not lead to"
    site = Path(site).resolve()
    pages,led = {f:Tags(f.read_text('utf-8')) for f in sorted(site.rglob('*.html'))},set()
    for f,page in pages.items():
        rel = f.relative_to(site)
        for tag,ref in page.refs:
            u = urlsplit(ref)
            if u.scheme or u.netloc: continue
            to = (f.parent/unquote(u.path)).resolve() if u.path else f
            if to.is_dir(): to = to/'index.html'
            if f==site/'index.html': led.add(to)
            if not to.exists(): yield f'{rel}: {tag} {ref[:100]} leads nowhere'
            elif u.fragment and to in pages and unquote(u.fragment) not in pages[to].ids: yield f'{rel}: no anchor {ref[:100]}'
        yield from (f'{rel}: {tag} without source' for tag in page.empty)
    yield from (f'{f.relative_to(site)}: index.html does not lead there' for f in pages if f not in led)

if __name__=='__main__':
    dest = (root/'_site' if len(sys.argv)<2 else Path(sys.argv[1])).resolve()
    bad = [*build(dest), *faults(dest)]
    print(f'{dest}: {len(list(dest.rglob("*.html")))} pages, {sum(o.stat().st_size for o in dest.rglob("*") if o.is_file())/1e6:.1f} MB')
    sys.exit('\n'.join(bad) or 0)
