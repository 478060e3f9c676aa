# The public names; imported when they are first used.
from .auto import AutoMasks as AutoMasks
from .box import BoxMasks as BoxMasks
from .stored import StoredMasks as StoredMasks
