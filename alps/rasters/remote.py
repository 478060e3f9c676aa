"""Rasters behind URIs, which GDAL reads by range requests.

Credentials come from GDAL's environment variables, such as ``AWS_ACCESS_KEY_ID``,
``GS_ACCESS_KEY_ID``, ``AZURE_STORAGE_ACCOUNT`` or ``GDAL_HTTP_HEADERS``. Only http(s) and s3 are
tested; gs and az use the same code and have not been tried.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

#: GDAL's name for each scheme of a URI.
PREFIXES = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
}
#: GDAL's settings for the network, unless the environment has them. By default GDAL waits without
#: limit, and remembers for the whole process that a file could not be reached.
OPTIONS: dict[str, int | str] = {
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",
    "GDAL_HTTP_CONNECTTIMEOUT": 10,  # seconds
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,  # bytes per second
    "GDAL_HTTP_LOW_SPEED_TIME": 60,  # seconds
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds
}
#: Errors that concern one file, rather than the network: 408 and 429 may succeed later.
_FILE_ERROR = re.compile(
    r"HTTP response code: 4(?!08|29)\d\d|not recognized as being in a supported file format"
)
_DENIED = re.compile(r"HTTP response code: 40[13]")


def is_uri(text: str) -> bool:
    """Return whether a text is a URI of a supported scheme.

    >>> is_uri("s3://bucket/a.tif"), is_uri("data/a.tif")
    (True, False)
    """
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in PREFIXES


def to_source(path: str | Path) -> Path | str:
    """Return a URI as text, and any other path as `Path`."""
    return path if isinstance(path, str) and is_uri(path) else Path(path)


def to_gdal_name(uri: str) -> str:
    """Return GDAL's name of a URI.

    >>> to_gdal_name("s3://bucket/town/a.tif")
    '/vsis3/bucket/town/a.tif'
    """
    scheme, _, rest = uri.partition("://")
    return PREFIXES[scheme.lower()] + rest


def without_query(uri: str) -> str:
    """Return a URI without its parameters, which may be secret."""
    return re.split(r"[?#]", uri, maxsplit=1)[0]


def default_options() -> dict[str, int | str]:
    """Return the settings of `OPTIONS` that are not in the environment."""
    return {name: value for name, value in OPTIONS.items() if name not in os.environ}


def is_network_failure(reason: str) -> bool:
    """Return whether an error of GDAL concerns the network rather than one file."""
    return _FILE_ERROR.search(reason) is None


def explain_failure(reason: str) -> str:
    """Return an error of GDAL with a remedy, if access was denied."""
    if _DENIED.search(reason):
        return (
            f"{reason}; set the credentials in GDAL's environment variables, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or GDAL_HTTP_HEADERS"
        )
    return reason
