"""Rasters: TIFF and JPEG 2000 files as sources of pixels, and GeoTIFFs as results, through GDAL."""
