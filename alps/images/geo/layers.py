"""The vector files of a collection of rasters, and the classes of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.files.labels import refuse_unlabelled
from alps.images.files.listing import contents
from alps.rasters.vectors import MAGIC, Layer, read_layer

#: Name of the class of pixels outside all features.
BACKGROUND = "background"
#: Name of the class of all features if no attribute has the classes.
OBJECT = "object"


@dataclass(frozen=True)
class Layers:
    """One vector file for all rasters, or a folder with one for each.

    Args:
        path: the file or folder.
        field: attribute that contains the class. None: all features have one class.
        classes: class names in the order of their ids. None: all values of ``field``, sorted.
        layer: name of the layer, if the files have several.
        background: whether class 0 is the background.
    """

    path: Path
    field: str | None
    classes: Sequence[str] | None
    layer: str | None
    background: bool

    def __post_init__(self) -> None:
        classes = self.classes
        if isinstance(classes, str) or len({*(classes or ())}) < len(classes or ()):
            raise ConfigError(
                f"dataset.classes={classes}: expected a list of distinct names, one per class, "
                "such as [building,road]"
            )
        if self.background and BACKGROUND in (classes or ()):
            raise ConfigError(
                f"dataset.classes contains {BACKGROUND!r}, the name of class 0; rename it, or set "
                "dataset.background=false"
            )
        if self.field is None and len(classes or ()) > 1:
            raise ConfigError(
                f"dataset.classes={[*(classes or ())]} are {len(classes or ())} classes, but "
                "dataset.field=null gives all features one class; set dataset.field to the "
                "attribute with the classes"
            )

    def require(self, rasters: Sequence[str]) -> None:
        """Raise `LabelError` if a raster, named by its id, has no vector file."""
        if "" not in self._files:
            missing = sorted({*rasters} - self._files.keys())
            refuse_unlabelled(
                missing, len(rasters), f"a vector file of the same name under {self.path}"
            )

    def of(self, raster: str) -> Layer:
        """Return the layer of a raster, named by its id."""
        files = self._files
        return self._layers[files[""] if "" in files else files[raster]]

    def category(self, layer: Layer, row: int) -> str | None:
        """Return the class of a feature; None: it has none."""
        return self.names[0] if self.field is None else layer.category[row]

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of the classes without the background.

        Raises:
            LabelError: the attribute has no value, or the name of the background.
        """
        if self.classes is not None:
            return [str(name) for name in self.classes]
        if self.field is None:
            return [OBJECT]
        values = {name for layer in self._layers.values() for name in layer.category if name}
        if not values:
            raise LabelError(
                f"the attribute {self.field!r} of {self.path} is empty, expected class names; set "
                "dataset.field to another attribute, or to null for a single class"
            )
        if self.background and BACKGROUND in values:
            raise LabelError(
                f"the attribute {self.field!r} of {self.path} contains {BACKGROUND!r}, the name "
                "of class 0; set dataset.background=false"
            )
        return sorted(values)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Class ids by name."""
        return {name: i for i, name in enumerate(self.names, int(self.background))}

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """The vector file of each raster by its id, or the file for all rasters as ""."""
        if not self.path.is_dir():
            return {"": self.path}
        files: dict[str, Path] = {}
        for file in sorted(p for p in self.path.rglob("*") if p.suffix.lower() in MAGIC):
            stem = file.relative_to(self.path).with_suffix("").as_posix()
            if (other := files.setdefault(stem, file)) != file:
                raise LabelError(f"{other} and {file} annotate the same raster; remove one of them")
        if not files:
            raise DatasetNotFound(
                f"no vector file under {self.path.absolute()} ({contents(self.path)}), expected "
                f"{', '.join(MAGIC)}; set dataset.vectors"
            )
        return files

    @cached_property
    def _layers(self) -> Mapping[Path, Layer]:
        return {
            path: read_layer(path, field=self.field, layer=self.layer)
            for path in self._files.values()
        }
