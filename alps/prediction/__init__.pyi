# The public names; imported when they are first used.
from .net import Net as Net
from .sliding import SlidingWindow as SlidingWindow
