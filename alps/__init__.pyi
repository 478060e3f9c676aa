# The public functions; imported when they are first used.
from .evaluation.evaluate import evaluate as evaluate
from .export.layouts import export_store as export_store
from .images.stored import open_store as open_store
from .labelling.label import label as label
from .masks.segment import segment as segment
from .training.fit import fit as fit
from .training.load_net import load_net as load_net

__version__: str
