"""Prediction of index maps for image files; GeoTIFFs give GeoTIFFs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Integer, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from alps.errors import ConfigError, DatasetNotFound, ImageError
from alps.images.files.labels import Labels
from alps.images.files.listing import walk
from alps.images.files.read import read_pixels
from alps.images.plain.folder import Folder
from alps.prediction.limits import FILES
from alps.prediction.regions import write_regions
from alps.prediction.sliding import Forward, SlidingWindow, most_probable
from alps.rasters.formats import VECTORS
from alps.rasters.gdal import RASTER_SUFFIXES
from alps.rasters.index_map import create_index_map, create_probability_map
from alps.rasters.packages import import_geo
from alps.rasters.pixels import blank_invalid
from alps.rasters.raster import Raster
from alps.rasters.sidecars import find_sidecars
from alps.rasters.view import View
from alps.structures.bands import describe_bands, to_float
from alps.structures.georeference import Georeference
from alps.structures.output import probability_file, write_output
from alps.structures.paint import ignore_index_for
from alps.structures.palette import index_png
from alps.structures.records import Category
from alps.structures.settings import check_settings
from alps.structures.tiles import Tile

log = logging.getLogger(__name__)

#: Function that reads the pixels of a window; None: none of them has data.
Read = Callable[[Tile], UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"] | None]


class LabelledTile(NamedTuple):
    """A part of an image with its index map.

    Args:
        tile: the part.
        labels: class of each pixel.
        probability: probability of this class, 1 to 255, and 0 for pixels without data. None: not
            requested.
    """

    tile: Tile
    labels: Integer[np.ndarray, "H W"]
    probability: UInt8[np.ndarray, "H W"] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of files by outcome."""

    written: int
    kept: int  # written by an earlier run
    failed: int  # skipped because they cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Writes index maps of an image or a folder of images.

    The maps have a palette. ``categories.json`` in the same folder lists the classes, and
    ``predictor.json`` identifies the weights, the view and the settings of the sliding window.

    The map of an image is a PNG. The map of a georeferenced raster is a GeoTIFF with the same
    coordinate reference system, on the grid of the resampled raster if ``view`` has a ground
    sampling distance. Pixels without data are ``ignore_index`` (255, or 65535 for more than 255
    classes). Large images are predicted in bands (`SlidingWindow.bands`), and GeoTIFFs are also
    read and written in parts, so they need not fit into memory. The result is identical to a
    prediction of the whole image at once.

    Args:
        net: maps images to logits of the categories, in their order.
        window: sliding window.
        categories: the classes; the id is the pixel value.
        weights: SHA-256 of the weights.
        divisor: side in pixels; images are padded to multiples of it.
        device: device of the model.
        buffer: number of pixels whose probabilities are in memory at a time, 4 bytes per class
            each.
        band_names: descriptions or numbers of the bands that the model sees; images are then TIFF
            or JPEG 2000 files. None: RGB.
        view: how TIFF and JPEG 2000 files are read. Its bands are found by description or number
            in each file. None: with the defaults of `alps.rasters.raster.Raster`.
        vector: format of polygons of the predicted regions, which are written beside each GeoTIFF
            (`alps.rasters.formats.VECTORS`). None: no polygons.
        probability: write ``<image>.probability.png`` or, beside a GeoTIFF, ``.tif``: the
            probability of the predicted class as 1 to 255; 0 is no data.

    Raises:
        ConfigError: the format is unknown.
        MissingPackage: polygons are requested, and geopandas is not installed.
    """

    net: Forward
    window: SlidingWindow
    categories: Sequence[Category]
    weights: str
    divisor: int = 32
    device: torch.device | str = "cpu"
    buffer: int = 1 << 22
    band_names: Sequence[str] | None = None
    view: View | None = None
    vector: str | None = None
    probability: bool = False

    def __post_init__(self) -> None:
        check_settings(FILES, {"vector": self.vector, "probability": self.probability})

    def __call__(self, source: str | Path, target: str | Path) -> Counts:
        """Predict the images that have no index map yet.

        A file that cannot be read is reported, counted and skipped.

        Args:
            source: an image, or a folder that is searched recursively.
            target: folder of the index maps, which get the relative paths of the images.

        Returns:
            The numbers of written, kept and skipped files.

        Raises:
            ConfigError: ``target`` lies in ``source``, cannot be written, or contains predictions
                with different weights, classes, windows or views.
            DatasetNotFound: there is no image.
            ImageError: none of the images can be used.
        """
        if self.vector is not None:
            import_geo("geopandas")  # raises now rather than after a prediction
        files = _list(Path(source), Path(target))
        self._check_record(Path(target))
        georeferences = {path: self._georeference(path) for path in files.values()}
        results = {
            path: Path(target, f"{image_id}.{'tif' if georeferences[path] else 'png'}")
            for image_id, path in files.items()
        }
        unplaced = [path.name for path in files.values() if not georeferences[path]]
        if self.vector is not None and unplaced:
            log.warning(
                "%d of %d images have no georeference, so no %s is written for them (first: %s)",
                *(len(unplaced), len(files), VECTORS[self.vector], unplaced[0]),
            )
        todo = {
            path: result
            for path, result in results.items()
            if not all(file.exists() for file in (result, *self._extras(result)))
        }
        kept = len(results) - len(todo)
        errors = []
        with (
            tqdm(total=len(results), initial=kept, desc="predict", unit="image") as bar,
            logging_redirect_tqdm(),
        ):
            for path, result in todo.items():
                try:
                    with write_output(result) as temporary:
                        if georeference := georeferences[path]:
                            self._geotiff(path, result, temporary, georeference)
                        else:
                            self._png(path, result, temporary)
                except ImageError as error:
                    log.warning("skipped %s: %s", path, error)
                    errors.append(error)
                bar.update()
        if len(errors) == len(results):
            raise ImageError(f"none of {len(results)} images can be used; the first: {errors[0]}")
        return Counts(written=len(todo) - len(errors), kept=kept, failed=len(errors))

    @property
    def ignore_index(self) -> int:
        """Value of pixels without a class."""
        return ignore_index_for(len(self.categories))

    @property
    def colors(self) -> list[tuple[int, int, int]]:
        """RGB colour of each class."""
        return [category.color for category in self.categories]

    def array(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        valid: Bool[np.ndarray, "H W"] | None = None,
        *,
        name: str = "image",
    ) -> Labels:
        """Return the index map of an array.

        Args:
            image: RGB.
            valid: pixels that have data; None: all.
            name: name of the image in the progress bar.
        """
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1)
        return self._whole(pixels, valid, name).labels

    def bands(
        self,
        values: Float32[np.ndarray, "C H W"],
        valid: Bool[np.ndarray, "H W"] | None = None,
        *,
        name: str = "image",
    ) -> Labels:
        """Return the index map of an array of bands.

        Args:
            values: the bands `band_names`.
            valid: pixels that have data; None: all.
            name: name of the image in the progress bar.
        """
        return self._whole(torch.from_numpy(values).to(self.device), valid, name).labels

    def _whole(
        self,
        pixels: UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"],
        valid: Bool[np.ndarray, "H W"] | None,
        name: str,
    ) -> LabelledTile:
        """Predict an image on the device."""
        size = (pixels.shape[1], pixels.shape[2])
        parts = self._labels(lambda t: pixels[:, t.y0 : t.y1, t.x0 : t.x1], size, name)
        whole = self._join(parts, size)
        if valid is not None:
            whole.labels[~valid] = self.ignore_index
            if whole.probability is not None:
                whole.probability[~valid] = 0
        return whole

    def file(self, path: Path) -> Labels:
        """Return the index map of a file; raise `ImageError` if it cannot be used."""
        return self._read(path).labels

    def _read(self, path: Path) -> LabelledTile:
        """Predict a file as a whole; raise `ImageError` if it cannot be used."""
        has_view = self.view is not None and path.suffix.lower() in RASTER_SUFFIXES
        if self.band_names is None and not has_view and self._georeference(path) is None:
            pixels = read_pixels(path)
            image = torch.from_numpy(pixels.image).to(self.device).permute(2, 0, 1)
            return self._whole(image, pixels.valid, path.name)
        with self._open(path) as raster:
            return self._join(self._raster(raster, path), raster.size)

    def _georeference(self, path: Path) -> Georeference | None:
        """Return the georeference of a raster, or None if neither it nor a world file has one."""
        if path.suffix.lower() not in RASTER_SUFFIXES:
            return None
        try:
            with self._open(path) as raster:
                return raster.georeference
        except ImageError:  # reported when the image is read
            return None

    def _extras(self, result: Path) -> list[Path]:
        """Return the files that are written beside an index map."""
        extras = [probability_file(result)] if self.probability else []
        if self.vector is not None and result.suffix == ".tif":
            extras.append(_beside(result, VECTORS[self.vector]))
        return extras

    def _png(self, path: Path, result: Path, temporary: Path) -> None:
        """Write the index map to ``temporary``, and a complete file of probabilities beside."""
        image = self._read(path)
        temporary.write_bytes(index_png(image.labels, self.colors, self.ignore_index))
        if image.probability is not None:
            with write_output(probability_file(result)) as file:
                Image.fromarray(image.probability).save(file, format="PNG")

    def _geotiff(
        self, path: Path, result: Path, temporary: Path, georeference: Georeference
    ) -> None:
        """Write the index map to ``temporary``, and complete files with polygons etc. beside."""
        names = [category.name for category in self.categories]
        with TemporaryDirectory(prefix=".", dir=result.parent) as folder, ExitStack() as stack:
            beside = Path(folder, result.name)
            raster = stack.enter_context(self._open(path))
            with ExitStack() as files:
                write = files.enter_context(
                    create_index_map(
                        *(temporary, raster.size, georeference, self.colors, self.ignore_index),
                        names,
                    )
                )
                if self.probability:
                    file = probability_file(beside)
                    write_probability = files.enter_context(
                        create_probability_map(file, raster.size, georeference)
                    )
                for tile, labels, probability in self._raster(raster, path):
                    write(tile, labels)
                    if probability is not None:
                        write_probability(tile, probability)
            if self.vector is not None:
                target = _beside(beside, VECTORS[self.vector])
                write_regions(temporary, target, georeference, self.categories)
            for file in Path(folder).iterdir():
                file.replace(result.parent / file.name)

    def _open(self, path: Path) -> Raster:
        """Open a raster; raise `ImageError` if it cannot be read or lacks a band."""
        view = self._raster_view
        try:
            return Raster(path, view)
        except ImageError as error:
            if view is None:
                raise
            raise ImageError(f"{error}; the model sees {_describe(view)}") from error

    @property
    def _raster_view(self) -> View | None:
        """The view with which rasters are opened."""
        if self.band_names is not None:
            # The image is not used, so its band must not make other pixels invalid.
            gsd = None if self.view is None else self.view.gsd
            return View(rgb=(self.band_names[0],), bands=tuple(self.band_names), gsd=gsd)
        # Images are files; the assets of STAC items are bands of these names.
        return None if self.view is None else replace(self.view, assets=None)

    def _raster(self, raster: Raster, path: Path) -> Iterator[LabelledTile]:
        """Yield the index map of a raster in parts, and read each part when it is needed."""

        def read(tile: Tile) -> UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"] | None:
            if self.band_names is not None:
                values, valid = to_float(*raster.read_bands(tile), self.window.fill)
                if valid is not None and not valid.any():
                    return None
                return torch.from_numpy(values).to(self.device)
            pixels = raster.read(tile)
            if pixels.valid is not None and not pixels.valid.any():
                return None
            image = blank_invalid(pixels).image
            return torch.from_numpy(image).to(self.device).permute(2, 0, 1)

        for part in self._labels(read, raster.size, path.name):
            valid = raster.valid(part.tile)
            labels = np.where(valid, part.labels, self.ignore_index)
            probability = part.probability
            yield LabelledTile(
                part.tile, labels, None if probability is None else probability * valid
            )

    def _join(self, parts: Iterable[LabelledTile], size: tuple[int, int]) -> LabelledTile:
        """Return the parts of an image as one."""
        labels = np.empty(size, np.uint8 if self.ignore_index <= 255 else np.uint16)
        probability = np.empty(size, np.uint8) if self.probability else None
        for tile, part, probability_of_part in parts:
            labels[tile.y0 : tile.y1, tile.x0 : tile.x1] = part
            if probability is not None and probability_of_part is not None:
                probability[tile.y0 : tile.y1, tile.x0 : tile.x1] = probability_of_part
        return LabelledTile(Tile(0, 0, size[1], size[0]), labels, probability)

    def _labels(self, read: Read, size: tuple[int, int], name: str) -> Iterator[LabelledTile]:
        """Yield the most probable classes in parts, with a progress bar for a large image."""
        pixels = size[0] * size[1]
        with tqdm(
            total=pixels,
            desc=name,
            unit="px",
            unit_scale=True,
            leave=False,
            disable=pixels <= self.buffer,
        ) as bar:
            for tile, probabilities in self.window.bands(
                self.net, read, size, divisor=self.divisor, buffer=self.buffer
            ):
                yield self._most_probable(tile, probabilities)
                bar.update(tile.area)

    def _most_probable(
        self, tile: Tile, probabilities: Float32[Tensor, "K h w"] | None
    ) -> LabelledTile:
        """Return the most probable class of each pixel; None: no pixel has data."""
        if probabilities is None:
            dtype = np.uint8 if self.ignore_index <= 255 else np.uint16
            labels = np.full(tile.size, self.ignore_index, dtype)
            return LabelledTile(
                tile, labels, np.zeros(tile.size, np.uint8) if self.probability else None
            )
        classes = most_probable(probabilities).cpu().numpy()
        if not self.probability:
            return LabelledTile(tile, classes)
        highest = (probabilities.max(dim=0).values * 255).round().clamp(1, 255)
        return LabelledTile(tile, classes, highest.to(torch.uint8).cpu().numpy())

    def _check_record(self, target: Path) -> None:
        """Record weights, view, window and classes in a new folder, or compare them.

        Raises:
            ConfigError: the folder contains predictions with different weights, classes, windows or
                views.
        """
        classes, settings = target / "categories.json", target / "predictor.json"
        window = {f"window.{key}": value for key, value in self.window.identity.items()}
        # As lists, like in the record.
        view = None if self.view is None else json.loads(json.dumps(self.view.to_json()))
        current: dict[str, Any] = {"weights": self.weights, "view": view, **window}
        listed = [asdict(category) for category in self.categories]
        if not classes.exists():  # written last: its existence marks a complete record
            _write_json(settings, current)
            _write_json(classes, listed)
            return
        recorded = _read_json(settings)
        what = ""
        if _read_json(classes) != json.loads(json.dumps(listed)):
            what = f"of different classes ({classes.name} differs)"
        elif not isinstance(recorded, dict):
            what = f"of an unknown model ({settings.name} does not identify it)"
        elif changed := [key for key in current if recorded.get(key) != current[key]]:
            changes = "; ".join(
                f"{key} was {recorded.get(key)}, is {current[key]}" for key in changed
            )
            what = f"made with different settings ({settings.name}: {changes})"
        if what:
            raise ConfigError(
                f"{target} contains predictions {what}; choose a different folder with output=DIR"
            )


def _describe(view: View) -> str:
    """Return what a model sees of rasters as part of a sentence."""
    bands = describe_bands([*map(str, view.bands or view.rgb or ())] or None)
    return bands if view.gsd is None else f"{bands} at {view.gsd:g} m per pixel"


def _beside(result: Path, suffix: str) -> Path:
    """Return the file beside an index map that has another suffix."""
    return result.with_name(result.name.removesuffix(result.suffix) + suffix)


def _write_json(path: Path, content: Any) -> None:
    with write_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def _read_json(path: Path) -> Any:
    """Read a JSON file; return None if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _list(source: Path, target: Path) -> dict[str, Path]:
    """Return the files of the requested images by image id.

    Raises:
        ConfigError: the predictions would be written among the images.
        DatasetNotFound: ``source`` does not exist.
    """
    if not source.exists():
        raise DatasetNotFound(
            f"there is no {source.absolute()}; set input= to an image or a folder"
        )
    folder = source if source.is_dir() else source.parent
    output = target.resolve()
    if output == folder.resolve() or (source.is_dir() and output.is_relative_to(folder.resolve())):
        raise ConfigError(
            f"the predictions would lie among the images: {target} is in {folder}; choose a "
            "different folder with output=DIR"
        )
    if not source.is_dir():
        return {source.stem: source}
    records = Folder(str(source), source.name).records()
    # World files are excluded, because they are read (`alps.rasters.georeference`).
    file_names = (path for path, _ in walk(source) if not path.endswith(".tfw"))
    for finding in find_sidecars(file_names):
        log.warning("%s", finding)
    return {record.image_id: source / record.file_name for record in records}
