# The public names; imported when they are first used.
from .label_store import LabelStore as LabelStore
from .layout import ImageStatus as ImageStatus
