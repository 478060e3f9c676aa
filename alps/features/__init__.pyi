# The public names; imported when they are first used.
from .joined import JoinedFeatures as JoinedFeatures
from .sam import SamFeatures as SamFeatures
from .shape import ShapeFeatures as ShapeFeatures
from .sscd import SscdFeatures as SscdFeatures
from .stored import StoredFeatures as StoredFeatures
from .timm import TimmFeatures as TimmFeatures
