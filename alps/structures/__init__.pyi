# The public names; imported when they are first used.
from .boxes import Boxes as Boxes
from .findings import Finding as Finding
from .masks import Masks as Masks
from .records import Category as Category
from .records import ImageRecord as ImageRecord
from .records import Sample as Sample
from .tiles import Tile as Tile
