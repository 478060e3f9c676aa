# The public names; imported when they are first used.
from .load import load_segmenter as load_segmenter
