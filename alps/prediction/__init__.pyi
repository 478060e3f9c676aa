# The public names; imported when they are first used.
from .sliding import SlidingWindow as SlidingWindow
