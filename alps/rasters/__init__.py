"""Rasters: reading of TIFF and JPEG 2000 files and writing of GeoTIFFs, with GDAL."""
