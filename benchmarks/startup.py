"""Processor time of imports and of the command, beside fastai's and timm's, in turns, in one run

    python -m benchmarks.startup [--rounds 5]

Each line is the smallest of the rounds: a busy machine only adds to it."""
import os, subprocess, sys
from fastcore.script import call_parse

cases = {
    'fastai.vision.all and timm':'from fastai.vision.all import *; import timm',
    'slicer_fastai.all':'from slicer_fastai.all import *',
    'slicer tasks':"import os, sys, tempfile; t = os.path.join(tempfile.mkdtemp(), 't.csv'); open(t, 'w').write('path,label,split\\na.wav,x,train\\n'); sys.argv = ['slicer', 'tasks', t]; from slicer_fastai.cli.main import main; main()",
    'slicer --help':"import sys; sys.argv = ['slicer', '--help']; from slicer_fastai.cli.main import main; main()"}

def processor_seconds(code):
    "User and system time of a Python that runs `code`"
    before = os.times()
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user-before.children_user+after.children_system-before.children_system

@call_parse
def main(rounds:int=5): # how often each is measured
    "Measure in turns and print the smallest of each, and its ratio to the first"
    least = {}
    for _ in range(rounds):
        for name,code in cases.items(): least[name] = min(processor_seconds(code), least.get(name, 1e9))
    reference = next(iter(least.values()))
    for name,seconds in least.items(): print(f'{name:30} {seconds:6.2f} s {seconds/reference:6.2f}')
