# The public functions, and the packages of public classes; imported when they are first used.
from . import assign as assign
from . import features as features
from . import images as images
from . import masks as masks
from . import models as models
from . import prediction as prediction
from . import sam as sam
from . import store as store
from . import structures as structures
from . import training as training
from .evaluation.evaluate import evaluate as evaluate
from .export.layouts import export_store as export_store
from .images.stored import open_store as open_store
from .labelling.label import label as label
from .masks.segment import segment as segment
from .training.fit import fit as fit
from .training.load_net import load_net as load_net

__version__: str
