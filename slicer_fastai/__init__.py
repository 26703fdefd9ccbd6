"Pre-train audio encoders on unlabelled sound with SLICER (arXiv 2211.01519), the fastai way"
import warnings as _warnings
from importlib.metadata import version as _version
_warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated', category=FutureWarning)     # of fastai and timm, when they are imported
__version__ = _version('slicer_fastai')
