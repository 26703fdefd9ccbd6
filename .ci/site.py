"""The site: notebooks by nbdev's processors, pages by smalldocs, into _site/. `python .ci/site.py [DEST]`; exit 1 names faults."""
import ast, json, re, shutil, sys
from configparser import ConfigParser
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
sys.path.insert(0, str(root/'.ci'))
import reference

def repository():
    "The address of the repository, e.g. https://github.com/OWNER/NAME: `repository` in settings.ini, or '' where it has none yet"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT'].get('repository', '').rstrip('/')

def names(nb):
    "Public names that a notebook exports"
    return [n for c in nb.cells if reference.is_exported(c) for n,_ in reference.names(c.source)]

def show_exports(cell):
    "Cells that only set up leave the page; the source of the others is folded below what it defines"
    if cell.cell_type!='code': return
    d = cell.directives_
    exported = 'export' in d or 'exporti' in d
    if 'default_exp' in d or 'nbdev_export()' in cell.source: del cell['source']
    elif exported and all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(cell.source).body): del cell['source']
    elif exported: cell.source = '#| code-fold: true\n#| code-summary: "Source"\n'+cell.source

def head_exports(nb):
    "Before each exported cell, the reference of its public names: anchors, entries of the search and of the table of contents"
    module = reference.module_of(nb)
    for i,c in reversed(list(enumerate(nb.cells))):
        if reference.is_exported(c) and (text := reference.reference(c.source, module)): nb.cells.insert(i, mk_cell(text, 'markdown'))

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
    pages,repo = pages or all_pages(),repository()
    process(work, pages)
    if repo: (work/'_quarto.yml').write_text(re.sub(r'^website:$', f'website:\n  repo-url: {repo}', (work/'_quarto.yml').read_text(), flags=re.M))
    site = render(str(work), quiet=True)
    shutil.move(work/'_site', dest)
    shutil.rmtree(work)
    add_buttons(dest, pages, repo)
    write_search(dest)
    return list(site.warnings)

def buttons(page, repo):
    "Links of a page that is a notebook: to download it, and where the repository has an address to run and to edit it"
    name = Path(page).name
    links = [f'<a href="{name}" download>Download this notebook</a>']
    if repo:
        where = repo.split('github.com/')[-1]
        links += [f'<a href="https://colab.research.google.com/github/{where}/blob/main/nbs/{page}">Open in Colab</a>',
                  f'<a href="https://mybinder.org/v2/gh/{where}/main?labpath=nbs/{page}">Open in Binder</a>',
                  f'<a href="{repo}/edit/main/nbs/{page}">Edit this page</a>']
    return f'<p class="notebook-links">{" · ".join(links)}</p>'

def add_buttons(site, pages, repo):
    "The notebooks themselves beside their pages, and links to them below the titles"
    for page in pages:
        fn = (site/page).with_suffix('.html')
        text = fn.read_text('utf-8')
        end = text.find('</header>', text.find('id="title-block-header"'))
        if end<0: continue
        end += len('</header>')
        fn.write_text(text[:end]+buttons(page, repo)+text[end:], 'utf-8')
        shutil.copy(nbs/page, site/page)

def write_search(site):
    "smalldocs asks Fuse, which matches one fuzzy phrase; ours finds pages that hold several words, titles first"
    shutil.copy(root/'.ci/search.js', site/'site_libs/fuse/fuse.min.js')

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
