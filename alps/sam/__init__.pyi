# The public names; imported when they are first used.
from .segmenter import load_segmenter as load_segmenter
