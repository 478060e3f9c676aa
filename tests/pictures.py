"""Reports without pictures."""

from collections import defaultdict
from contextlib import contextmanager

import pytest

from alps.report.pictures.album import Album


@contextmanager
def no_pictures():
    """Leave charts and cut-outs out of reports: most of the time of a run of a few small images."""
    album = Album(images=[], strips=defaultdict(list), n_read=0, n_unreadable=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alps.report.pages.store.make_album", lambda *_: album)
        for name, value in (
            ("draw_bars", None),
            ("draw_maps", None),
            ("to_png", b"a picture"),
            ("to_svg", ""),
        ):
            patch.setattr(f"alps.report.charts.figures.{name}", lambda _, value=value: value)
        yield
