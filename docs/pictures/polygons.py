"""Draw docs/pictures/polygons.webp; run `python docs/pictures/polygons.py`.

Labels a forest plot of the National Ecological Observatory Network (10 cm, from the package
deepforest, MIT licence), exports the classes as a GeoPackage, and draws its polygons over the
image in map coordinates.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import geopandas
import matplotlib.pyplot as plt
import rasterio
from rasterio.plot import plotting_extent

import alps
from alps.images import Rasters
from alps.images.plain.sample import DEEPFOREST
from alps.pretrained.packages import fetch_members

PICTURE = Path(__file__).with_suffix(".webp")


def main() -> None:
    """Label, export and draw."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raster = folder / "OSBS_029.tif"
        fetch_members(DEEPFOREST, {"deepforest/data/OSBS_029.tif": raster})
        images = Rasters(root=str(raster), name="forest")
        store = alps.label(images, k=5, store=folder / "store", points_per_side=24)
        alps.export_store(store, "gpkg", folder / "out", simplify=0.15)
        regions = geopandas.read_file(folder / "out/regions.gpkg", layer="regions")
        colors = {c.id: [value / 255 for value in c.color] for c in store.categories()}
        with rasterio.open(raster) as file:
            image, extent = file.read().transpose(1, 2, 0), plotting_extent(file)
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.9), sharey=True, layout="constrained")
        for axis in axes:
            axis.imshow(image, extent=extent)
            axis.ticklabel_format(useOffset=False, style="plain")
            axis.tick_params(labelsize=7)
            axis.set_xticks([404_215, 404_230, 404_245])
        face = [(*colors[c], 0.42) for c in regions.class_id]
        edge = [colors[c] for c in regions.class_id]
        regions.plot(ax=axes[1], facecolor=face, edgecolor=edge, linewidth=0.8)
        axes[0].set_title("image", fontsize=9)
        axes[1].set_title("regions.gpkg, EPSG:32617", fontsize=9)
        axes[1].set(xlabel="", ylabel="")
        axes[1].set_xlim(extent[:2])
        axes[1].set_ylim(extent[2:])
        figure.savefig(PICTURE, dpi=110, pil_kwargs={"quality": 82})


if __name__ == "__main__":
    main()
