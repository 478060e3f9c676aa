"""Valid settings of SAM."""

from __future__ import annotations

from collections.abc import Mapping

from alps.structures.settings import Choice, Flag, Limits

ARCHITECTURES = ("mobile", "vit_b", "vit_l", "vit_h")

LIMITS: Mapping[str, Limits] = {
    "alps.sam.load_segmenter": {
        "architecture": Choice(ARCHITECTURES),
        "dtype": Choice(("float32", "bfloat16")),
        "compile": Flag(),
    }
}
