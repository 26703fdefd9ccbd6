"Pre-train audio encoders on unlabelled sound with SLICER (arXiv 2211.01519), the fastai way"
from importlib.metadata import version as _version
__version__ = _version('slicer_fastai')
