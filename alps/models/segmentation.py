"""The segmentation model: encoder → head → classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from alps.errors import ConfigError
from alps.pretrained.encoder import Encoder
from alps.structures.bands import BandStatistics


class Logits(NamedTuple):
    """Logits per class and pixel."""

    logits: Float[Tensor, "B K H W"]
    aux: Float[Tensor, "B K H W"] | None  # logits of the auxiliary head; None outside training


class SegmentationModel(nn.Module):
    """Map images to logits of the same height and width.

    A model for several datasets has a shared encoder and head, and one classifier per dataset
    (SAMRS, arXiv 2305.02034 §4). The classifier is named ``classifier`` in a model for one dataset
    and ``classifier.<dataset>`` in a model for several; `Checkpoint.choose` keeps one of several
    and renames it.

    Args:
        encoder: computes the feature maps.
        head: fuses the feature maps into one map with ``channels`` channels.
        num_classes: number of classes K, or K by dataset name.
        aux_head: auxiliary head, which adds a loss in training (PSPNet, arXiv 1612.01105 §3.3).
        band_names: names of the image channels, which `normalise_with` gives their statistics;
            None: RGB, which the encoder's statistics normalise.

    Raises:
        ConfigError: a dataset's name cannot be used as the name of a submodule.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        *,
        num_classes: int | Mapping[str, int],
        aux_head: nn.Module | None = None,
        band_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.classifier = _classifiers(head, num_classes)
        self.aux_head = aux_head
        self.band_names = None if band_names is None else tuple(band_names)
        self.aux_classifier = None if aux_head is None else _classifiers(aux_head, num_classes)
        self.register_buffer("mean", torch.tensor(encoder.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(encoder.std).view(1, -1, 1, 1))
        self.to(memory_format=torch.channels_last)  # faster on both GPUs and CPUs

    @property
    def num_classes(self) -> int:
        """Number of classes K, summed over all datasets."""
        return sum(classifier.out_channels for classifier in _each(self.classifier))

    @property
    def statistics(self) -> BandStatistics | None:
        """Statistics that normalise the bands; None: the image is RGB."""
        if self.band_names is None:
            return None
        mean, std = (tuple(values.flatten().tolist()) for values in (self.mean, self.std))
        return BandStatistics(self.band_names, mean, std)

    def normalise_with(self, statistics: BandStatistics) -> None:
        """Set the mean and the standard deviation of the bands, which checkpoints contain."""
        self.mean.copy_(torch.tensor(statistics.mean).view_as(self.mean))
        self.std.copy_(torch.tensor(statistics.std).view_as(self.std))

    def compile(self, **options: Any) -> None:
        """Compile the encoder and the heads in place, as one graph, but not the classifiers.

        The number of images per dataset varies from batch to batch, and each would need another
        graph.

        Args:
            options: arguments of `torch.compile`.
        """
        compiled = torch.compile(type(self)._decode, **options)
        # mypy refuses to replace a method; the compiled one hides that of the class.
        self._decode = partial(compiled, self)  # type: ignore[method-assign]

    def forward(
        self,
        image: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"],
        counts: Sequence[int] | None = None,
    ) -> Logits | list[Logits]:
        """Return the logits of a batch.

        Args:
            image: images (B, C, H, W), not normalised: RGB from 0 to 255, or bands as stored.
            counts: number of consecutive images of each dataset, possibly 0; None if the model was
                built for one dataset.

        Returns:
            Logits (B, K, H, W), or a list with the logits of each dataset if ``counts`` is given.
        """
        features, aux_features = self._decode(image)
        parts = [len(image)] if counts is None else counts
        logits = _classify(self.classifier, features, parts, image)
        aux: Sequence[Tensor | None] = [None] * len(logits)
        if aux_features is not None and self.aux_classifier is not None:
            aux = _classify(self.aux_classifier, aux_features, parts, image)
        outputs = [Logits(*pair) for pair in zip(logits, aux, strict=True)]
        return outputs[0] if counts is None else outputs

    def _decode(
        self, image: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B _ _ _"], Float[Tensor, "B _ _ _"] | None]:
        """Return the maps of the head and, in training, of the auxiliary head."""
        normalised = (image - self.mean) / self.std
        features = self.encoder(normalised.contiguous(memory_format=torch.channels_last))
        aux_features = None
        if self.training and self.aux_head is not None:
            aux_features = self.aux_head(features)
        return self.head(features), aux_features


def _classifiers(head: nn.Module, num_classes: int | Mapping[str, int]) -> nn.Module:
    if isinstance(num_classes, int):
        return _classifier(head, num_classes)
    for name in num_classes:
        if "." in name or hasattr(nn.ModuleDict(), name) or not name:
            raise ConfigError(
                f"{name!r} cannot be the name of a dataset, because a part of the model gets its "
                "name; choose a different NAME in +dataset@datasets.NAME=..."
            )
    return nn.ModuleDict({name: _classifier(head, k) for name, k in num_classes.items()})


def _classifier(head: nn.Module, num_classes: int) -> nn.Conv2d:
    channels = head.channels
    assert isinstance(channels, int)
    classifier = nn.Conv2d(channels, num_classes, kernel_size=1)
    nn.init.normal_(classifier.weight, std=0.01)  # as in mmsegmentation: near-uniform scores
    return classifier


def _each(classifier: nn.Module) -> list[nn.Conv2d]:
    modules = classifier.values() if isinstance(classifier, nn.ModuleDict) else [classifier]
    return [module for module in modules if isinstance(module, nn.Conv2d)]


def _classify(
    classifier: nn.Module,
    features: Float[Tensor, "B C h w"],
    counts: Sequence[int],
    image: Tensor,
) -> list[Tensor]:
    parts = torch.split(features, list(counts))
    return [_upsample(c(part), image) for c, part in zip(_each(classifier), parts, strict=True)]


def _upsample(logits: Tensor, image: Tensor) -> Tensor:
    """Resize logits to the image in float32, because bfloat16 would round them."""
    return F.interpolate(
        logits.float(), size=image.shape[-2:], mode="bilinear", align_corners=False
    )
