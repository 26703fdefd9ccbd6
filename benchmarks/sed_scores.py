"""Does `evaluate_events` count as sed_scores_eval (Ebbers, Serizel & Haeb-Umbach, ICASSP 2022) counts? On random tables of events, by collars.

    python -m benchmarks.sed_scores --make cases.json          # ours
    python -P benchmarks/sed_scores.py --check cases.json      # theirs, in a venv with sed_scores_eval, which needs pandas below 3

Events are dense on purpose: many an event lies within the collar of two others. Each found event is a block of its score over a score of 0, so that the thresholds of both sides
find the same ones.
"""
import argparse, json
import numpy as np, pandas as pd

def random_events(seed:int)->tuple: # found and annotated
    "Four recordings of one minute with dense events of one class"
    rng,annotated,found = np.random.default_rng(seed),[],[]
    for file in 'abcd':
        starts,last = np.cumsum(rng.uniform(.6, 6, 14)),-1.
        annotated += [(file,o,o+rng.uniform(.1, .5),'owl') for o in starts]
        guesses = [rng.choice(starts)+rng.normal(0, .4) if rng.random()<.5 else o for o in np.cumsum(rng.uniform(.5, 5, 18))]
        for o in sorted(guesses):
            if o<=last+.05 or o<0: continue
            last = o+.2
            found.append((file,o,last,'owl',round(rng.uniform(.01, .99), 3)))
    columns = 'file start end label score'.split()
    return pd.DataFrame(found, columns=columns),pd.DataFrame(annotated, columns=columns[:4])

def make(fn, n=200):
    "Our average precision of `n` tables, by three collars"
    from slicer_fastai.all import evaluate_events, Events
    cases = []
    for seed in range(n):
        found,annotated = random_events(seed)
        for collar in (.2,.5,1.):
            result = evaluate_events(Events(found), Events(annotated), collar, sorted('abcd'))
            cases.append(dict(seed=seed, collar=collar, ours=float(result.average_precision('owl'))))
    with open(fn, 'w') as f: json.dump(cases, f)

def check(fn):
    "Theirs, beside ours"
    from sed_scores_eval import collar_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe
    differences = []
    for case in json.load(open(fn)):
        found,annotated = random_events(case['seed'])
        scores,truth = {},{}
        for file,own in annotated.groupby('file'):
            blocks = found[found.file==file]
            edges = [0., *blocks[['start','end']].to_numpy().ravel(), 200.]
            values = [0., *np.stack([blocks.score, 0*blocks.score], 1).ravel()]
            scores[file] = create_score_dataframe(np.array(values)[:,None], np.array(edges), ['owl'])
            truth[file] = [(o.start,o.end,'owl') for o in own.itertuples()]
        curve = collar_based.precision_recall_curve(scores, truth, onset_collar=case['collar'], offset_collar=1000., offset_collar_rate=0.)
        precision,recall,threshold,_ = curve['owl']
        order = np.argsort(-threshold, kind='stable')
        order = order[np.isfinite(threshold[order]) & (threshold[order]>0)]
        theirs = (np.diff(recall[order], prepend=0)*precision[order]).sum()
        differences.append(dict(collar=case['collar'], difference=abs(theirs-case['ours'])))
    print(pd.DataFrame(differences).groupby('collar').difference.agg(['count','max']))

if __name__=='__main__':
    p = argparse.ArgumentParser()
    p.add_argument('--make')
    p.add_argument('--check')
    args = p.parse_args()
    if args.make: make(args.make)
    if args.check: check(args.check)
