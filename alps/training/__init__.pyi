# The public names; imported when they are first used.
from .callbacks import EMAWeightAveraging as EMAWeightAveraging
from .callbacks import LearningRates as LearningRates
from .callbacks import Pictures as Pictures
from .callbacks import ProgressBar as ProgressBar
from .callbacks import ScoreLines as ScoreLines
from .callbacks import Speed as Speed
from .losses import CrossEntropy as CrossEntropy
from .optim import Optim as Optim
from .robust_losses import BootstrappedCrossEntropy as BootstrappedCrossEntropy
from .robust_losses import GeneralizedCrossEntropy as GeneralizedCrossEntropy
from .robust_losses import SymmetricCrossEntropy as SymmetricCrossEntropy
