# The public names; imported when they are first used.
from .baselines import Binary as Binary
from .baselines import Random as Random
from .category import ByCategory as ByCategory
from .cluster import Cluster as Cluster
from .predicted import Predicted as Predicted
