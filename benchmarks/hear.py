"""What comes back when recordings are asked for by sound: trained beside untrained, by label and by source.

    python -m benchmarks.hear --data PATH [--encoder FOLDER] [--every 4]

PATH as for benchmarks.ablate. All test clips of all tasks lie in one index; every fourth asks. Of what comes back, clips of its own source
(speaker, kit, font …) are counted and then left out: same label from another source is right. One CSV row a task, label and encoder;
a few questions are printed with their answers.
"""
from fastcore.script import call_parse, CliError
from fastai.basics import *
from slicer_fastai.all import *
from benchmarks.ablate import tasks

def everything(data):
    "Test clips of all tasks: file → (task, label, source)"
    return {str(f):(t,y,f'{t} {g}') for t,s in tasks(data).items() for f,y,g in zip(*s['test'])}

def ask(index, what, fn, k=5):
    "The answers to one clip: `k` of other sources, and how many of its own source came before them"
    t,y,g = what[fn]
    found = [(f,*what[f]) for f in index.search(fn, k=len(index.files)).file]
    others = [o for o in found if o[3]!=g][:k]
    own = sum(o[3]==g for o in found[:found.index(others[-1])])
    return others,own

def table(answers, what):
    "A row a task and label: how often right, how often at least of the right task, what it was taken for, what came of its own source"
    share = lambda f,a,n: np.mean([o[1:n+1]==what[f][:n] for o in a])                # task, or task and label, as asked
    rows = [dict(task=what[f][0], label=what[f][1], right=share(f, a, 2), task_right=share(f, a, 1), first=share(f, a[:1], 2), own=own,
                 wrong=[' '.join(o[1:3]) for o in a if o[1:3]!=what[f][:2]]) for f,(a,own) in answers.items()]
    df = pd.DataFrame(rows)
    def one(g):
        c = Counter(sum(g.wrong, []))
        share = lambda c: 100*g[c].mean()
        return pd.Series(dict(questions=len(g), first_right=share('first'), right_of_5=share('right'), right_task=share('task_right'), own_source=g.own.mean(),
                              taken_for='; '.join(f'{k} {v}' for k,v in c.most_common(3))))
    return df.groupby(['task','label'])[df.columns[2:].tolist()].apply(one).reset_index()

@call_parse
def main(
    data:Path=None,             # folder with tasks/
    encoder:str='slicer-small', # folder of a saved encoder, or a shipped one's name
    every:int=4,                # every so many clips ask
    show:int=8,                 # questions printed with their answers
    out:Path=Path('hear.csv'),  # one row a task, label and encoder
):
    "Ask an index of test clips by sound"
    if data is None: raise CliError('--data is missing: the folder with tasks/')
    what,res = everything(Path(data)),[]
    enc = AudioEncoder.from_pretrained(encoder); q = list(what)[::every]
    indices = {n:e.index(list(what), level='clip', progress=False) for n,e in (('trained',enc), ('untrained',enc.untrained()))}
    answers = {n:{f:ask(ix, what, f) for f in q} for n,ix in indices.items()}
    for n,a in answers.items(): res.append(table(a, what).assign(encoder=n))
    df = pd.concat(res).round(1); df.to_csv(out, index=False)
    for f in q[::max(1, len(q)//show)][:show]:
        print('?', *what[f])
        for n in indices: print(f'   {n:9}', '; '.join(f'{l} ({g})' for _,_,l,g in answers[n][f][0]), f'| own source before them: {answers[n][f][1]}')
    num = df.select_dtypes('number').columns.drop('questions').tolist()
    mean = lambda g: pd.Series({k:np.average(g[k], weights=g.questions) for k in num})
    print(df.groupby(['task','encoder'])[[*num,'questions']].apply(mean).round(1).to_string())
