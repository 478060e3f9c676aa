"""Measure where the time goes: methods of existing objects, timed in place."""

from __future__ import annotations

from collections import Counter
from typing import Any

from jaxtyping import Float
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import Sam

from alps.sam.decoder import FoldedDecoder
from alps.sam.protocol import Embedding
from benchmarks.measure import clock

#: The encoder is measured apart; what the other three leave of the whole is the last.
STAGES = ("encoder", "transformer", "upscaling", "masks in the image")


class Stopwatch:
    """Seconds (`benchmarks.measure.clock`) of each watched method since the last `lap`."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def watch(self, owner: Any, method: str, stage: str) -> None:
        """Time every call from now on."""
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[stage] += clock() - start

        setattr(owner, method, timed)

    def lap(self, total: float) -> dict[str, float]:
        """Return the stages of a run that took ``total`` seconds, and reset."""
        transformer, upscaling = self.seconds["transformer"], self.seconds["upscaling"]
        if "decoder" in self.seconds:  # of which the transformer is a part
            upscaling = self.seconds["decoder"] - transformer
        self.seconds.clear()
        rest = total - transformer - upscaling
        return dict(zip(STAGES[1:], (transformer, upscaling, rest), strict=True))


def watch_stock(sam: Sam) -> Stopwatch:
    """Watch segment_anything's mask decoder; its upscaling includes the products with the masks."""
    stopwatch = Stopwatch()
    stopwatch.watch(sam.mask_decoder, "predict_masks", "decoder")
    stopwatch.watch(sam.mask_decoder.transformer, "forward", "transformer")
    return stopwatch


def watch_ours(decoder: FoldedDecoder) -> Stopwatch:
    """Watch the folded decoder."""
    stopwatch = Stopwatch()
    stopwatch.watch(decoder, "decode", "transformer")
    stopwatch.watch(decoder, "upscale", "upscaling")
    return stopwatch


class EmbeddedPredictor(SamPredictor):
    """segment_anything's predictor with an encoded image, as the encoder is timed separately."""

    def __init__(self, sam: Sam, embedding: Embedding) -> None:
        super().__init__(sam)
        self.embedding = embedding
        self.set_image()

    def set_image(self, *_: Any) -> None:
        """Use the embedding, whatever image is passed."""
        self.features: Float[Any, "1 C h w"] = self.embedding.features[None].contiguous()
        self.original_size = self.embedding.size
        self.input_size = self.embedding.input_size
        self.is_image_set = True


def without_encoder(
    generator: SamAutomaticMaskGenerator, embedding: Embedding
) -> SamAutomaticMaskGenerator:
    """Return the generator without the encoder."""
    generator.predictor = EmbeddedPredictor(generator.predictor.model, embedding)
    return generator
