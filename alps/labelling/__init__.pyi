# The public names; imported when they are first used.
from .engine.local import LocalEngine as LocalEngine
from .engine.ray import RayEngine as RayEngine
from .recipes import Recipe as Recipe
