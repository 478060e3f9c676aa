"""Valid settings of engines."""

from __future__ import annotations

from collections.abc import Mapping

from alps.structures.settings import Limits, Number

COUNT = Number(at_least=1, integer=True)

LIMITS: Mapping[str, Limits] = {
    "alps.labelling.LocalEngine": {
        "processes": Number(at_least=1, integer=True, also=("auto",)),
        "threads": COUNT,
    },
    "alps.labelling.RayEngine": {"actors": COUNT, "threads": COUNT},
}
