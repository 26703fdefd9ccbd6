"""The reference part of a page: for each public name a signature, a table of its arguments (inherited ones too), its methods; then the source, folded"""
import ast, importlib, inspect, re
from fastcore.docments import docments

empty = inspect.Parameter.empty

# SlicerLearner has some forty arguments: what a beginner needs, what one tunes, what research switches. Whatever is not named here belongs to the last group.
groups = {'SlicerLearner':{
    'To begin with':'dls arch pretrained arch_kwargs lr cbs metrics path',
    'To tune':'tfms ratio temp momentum queue_size bank_size n_clusters local_weight cluster_weight eq_db crop_freq crop_time opt_func wd seed refit_norm',
    'For research and special cases':''}}

def public(src):
    "The public functions and classes that a cell defines or patches in: (owner or None, node)"
    for o in ast.parse(src).body:
        if not isinstance(o, (ast.FunctionDef, ast.ClassDef)) or o.name.startswith('_'): continue
        patched = any(getattr(getattr(d, 'func', d), 'id', '')=='patch' for d in o.decorator_list)
        annotation = o.args.args[0].annotation if patched and o.args.args else None
        yield (ast.unparse(annotation) if annotation else None), o

def full_name(owner, node): return f'{owner}.{node.name}' if owner else node.name

def names(src): return [(full_name(*o), (ast.get_docstring(o[1]) or '').split('\n')[0]) for o in public(src)]

def is_exported(cell): return cell.cell_type=='code' and re.match(r'#\|\s*export\b', cell.source)

def module_of(nb):
    "The module that a notebook is exported to, imported; None for a page that exports nothing, or whose optional requirements are missing"
    found = [m[1] for c in nb.cells if c.cell_type=='code' and (m := re.match(r'#\|\s*default_exp\s+(\S+)', c.source))]
    if not found: return None
    try: return importlib.import_module('slicer_fastai.'+found[0])
    except ImportError: return None

def object_of(module, owner, name):
    "The function or class itself, not its wrapper"
    if module is None: return None
    where = vars(module).get(owner) if owner else module
    o = inspect.getattr_static(where, name, None) if where is not None else None
    return getattr(o, '__func__', o)

def delegated(node, module):
    "What the `delegates(…)` decorators of a definition name, nearest first"
    for d in node.decorator_list:
        if getattr(getattr(d, 'func', d), 'id', '')!='delegates' or not getattr(d, 'args', None): continue
        try: yield eval(ast.unparse(d.args[0]), vars(module))
        except (NameError, AttributeError): continue

def node_of(o):
    "The definition of a function or class as a syntax tree, or None"
    try: return ast.parse(inspect.cleandoc('\n'+inspect.getsource(o))).body[0]
    except (OSError, TypeError, SyntaxError, IndentationError): return None

def comments(o):
    "The comments beside a function's arguments: {name: text}"
    try: found = docments(o, full=True)
    except Exception: return {}
    return {k:v.docment for k,v in found.items() if v.docment}

def inherited(o, depth=0):
    "The comments of what a definition delegates to: {name: (text, from where)}"
    if depth>4 or o is None: return {}
    module,node,res = inspect.getmodule(o),node_of(o),{}
    for target in delegated(node, module) if node is not None and module else ():
        said = {k:(v, target.__qualname__.replace('.__init__', '')) for k,v in comments(target).items()}
        for k,v in {**inherited(target, depth+1), **said}.items(): res.setdefault(k, v)
    return res

def plain(anno):
    "A type as one writes it"
    if anno in (empty, None): return ''
    if isinstance(anno, str): return anno
    return re.sub(r'\b(?:\w+\.)+(\w)', r'\1', getattr(anno, '__name__', None) if isinstance(anno, type) else str(anno))

def default(value):
    "A default as one writes it"
    if value is empty: return ''
    if callable(value): return getattr(value, '__name__', str(value))
    text = repr(value)
    return text if len(text)<40 else text[:37]+'…'

def argument(p):
    "An argument with its type and default"
    stars = {p.VAR_POSITIONAL:'*', p.VAR_KEYWORD:'**'}.get(p.kind, '')
    anno,value = plain(p.annotation),default(p.default)
    return stars+p.name+(f': {anno}' if anno else '')+(f' = {value}' if value and anno else f'={value}' if value else '')

def cell(text): return ' '.join(str(text or '').split()).replace('|', r'\|')

def signature(o):
    "The arguments of a function or class, without self"
    try: found = inspect.signature(o)
    except (ValueError, TypeError): return None
    return found.replace(parameters=[p for k,p in found.parameters.items() if k not in ('self','cls')])

def heading(name, o, sig):
    "The signature as a block of code, broken where it is long"
    shown = [argument(p) for p in sig.parameters.values()]
    back = plain(sig.return_annotation)
    end = ')'+(f' -> {back}' if back else '')
    one = f'{name}({", ".join(shown)}{end}'
    if len(one)<=76: return one
    if len(shown)<=12: return f'{name}(\n'+''.join(f'    {a},\n' for a in shown)+end
    lines,line = [],'    '
    shown = [p.name if p.default is empty else f'{p.name}={default(p.default)}' for p in sig.parameters.values()]
    for a in shown:
        if len(line)+len(a)>76: lines.append(line.rstrip()); line = '    '
        line += a+', '
    return f'{name}(\n'+'\n'.join([*lines, line.rstrip()])+'\n'+end

def rows(params, own, more):
    "Rows of a table of arguments"
    for p in params:
        text,source = own.get(p.name),''
        if not text and p.name in more: text,source = more[p.name]
        if source: text = f'{text} *(see {source})*'
        yield f'| `{cell(argument(p))}` | {cell(text)} |'

def table(name, sig, own, more):
    "The table, or the tables by group, of the arguments"
    params = [p for p in sig.parameters.values() if p.name in own or p.name in more or p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not params: return ''
    head = '| argument | what it is |\n|---|---|\n'
    if name not in groups: return head+'\n'.join(rows(params, own, more))
    parts,left = [],{p.name:p for p in params}
    for title,wanted in groups[name].items():
        chosen = [left.pop(o) for o in wanted.split() if o in left] if wanted else list(left.values())
        parts.append(f'**{title}**\n\n{head}'+'\n'.join(rows(chosen, own, more)))
    return '\n\n'.join(parts)

def methods(node):
    "A class's public methods that its own body defines, with their first lines"
    found = [o for o in node.body if isinstance(o, ast.FunctionDef) and not o.name.startswith('_') and ast.get_docstring(o)]
    if not isinstance(node, ast.ClassDef) or not found: return ''
    def args(o): return ', '.join(a.arg for a in [*o.args.args, *o.args.kwonlyargs] if a.arg not in ('self','cls'))
    lines = [f'| `.{o.name}({args(o)})` | {cell((ast.get_docstring(o) or "").split(chr(10))[0])} |' for o in found]
    return '| method | what it does |\n|---|---|\n'+'\n'.join(lines)

condition  = r'(?:for|where|if|when|unless|without|while|names|says|with|on)\b'
error_name = r'`?(?P<error>\w+(?:Error|Busy))`?'
next_error = r'`?\w+(?:Error|Busy)`?\s+'+condition

def clauses(text):
    "A docstring's parts: at semicolons, and before what is said of an error"
    return re.split(rf';\s+|(?<=\.)\s+(?=Raises |{next_error})|,\s+(?={next_error})', text)

def split_errors(doc):
    "A docstring without what it says of errors, and that: [(error, when)]"
    kept,errors = [],[]
    for paragraph in re.split(r'\n\s*\n', doc):
        own = []
        for clause in clauses(' '.join(paragraph.split())):
            m = re.match(rf'(?:[Rr]aises? )?{error_name}\s+(?P<when>{condition}.*)$', clause)
            if m is None:
                own.append(clause)
                continue
            when,*more = re.split(r'(?<=\w)\.\s+', m['when'], maxsplit=1)
            errors.append((m['error'], when.rstrip('.')))
            if more: own = ['; '.join(own)+'. '+more[0]] if own else more
        kept.append('; '.join(own))
    return ('\n\n'.join(o for o in kept if o), errors) if errors else (doc, [])

def error_table(errors):
    "The errors that a function raises, as a table"
    if not errors: return ''
    return '| error | when |\n|---|---|\n'+'\n'.join(f'| `{name}` | {cell(when)} |' for name,when in errors)

def returns(sig, back):
    "What a function returns: type and comment, which holds shapes and units"
    kind = plain(sig.return_annotation)
    return f'**Returns** `{kind}`: {cell(back)}' if kind else f'**Returns** {cell(back)}'

def entry(owner, node, module):
    "The reference of one name, as Markdown"
    name = full_name(owner, node)
    o = object_of(module, owner, node.name)
    doc,errors = split_errors(ast.get_docstring(node) or '')
    parts = [f'### {name} {{#{name}}}']
    sig = signature(o) if o is not None else None
    if sig is not None:
        own,more = comments(o),inherited(o)
        back = own.pop('return', None)
        shown = f'.{node.name}' if owner else name
        parts += [f'```python\n{heading(shown, o, sig)}\n```', doc, table(name, sig, own, more)]
        if back: parts.append(returns(sig, back))
    else: parts.append(doc)
    parts.append(error_table(errors))
    if isinstance(node, ast.ClassDef): parts.append(methods(node))
    return '\n\n'.join(p for p in parts if p)

def reference(src, module):
    "The reference of all public names of an exported cell"
    return '\n\n'.join(entry(*o, module) for o in public(src))
