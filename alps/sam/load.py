"""One segmenter per process, for the mask source and the features."""

from __future__ import annotations

from functools import lru_cache

from alps.sam.segmenter import SamSegmenter


def load_segmenter(
    architecture: str,
    checkpoint: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    compile: bool = False,  # noqa: A002 - the name in torch
) -> SamSegmenter:
    """Return a segmenter that the mask source and the features of a process share.

    A repeated call with equal arguments returns the same network and clears its cached embeddings,
    so that they do not shorten the measured time of the next trial of a sweep in this process.

    Args:
        architecture: one of `alps.sam.limits.ARCHITECTURES`.
        checkpoint: path of the weights; None uses the official weights.
        device: a PyTorch device; "auto" is the first GPU, or the CPU if there is none.
        dtype: "float32" or "bfloat16", in which the encoder multiplies.
        compile: compile encoder and decoder with torch.compile.
    """
    segmenter = _cached_segmenter(architecture, checkpoint, device, dtype, compile)
    segmenter.forget()
    return segmenter


@lru_cache(maxsize=1)
def _cached_segmenter(
    architecture: str,
    checkpoint: str | None,
    device: str,
    dtype: str,
    compile: bool,  # noqa: A002 - the name in torch
) -> SamSegmenter:
    """Build a segmenter; the latest one is cached."""
    return SamSegmenter(
        architecture, checkpoint=checkpoint, device=device, dtype=dtype, compile=compile
    )
