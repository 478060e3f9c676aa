"""Initialisation of a model at random, from ImageNet weights, or from a file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from alps.errors import CheckpointError, ConfigError
from alps.models.mmseg_names import NORMALISATION, TRUNK, from_mmseg, is_mmseg
from alps.models.segmentation import SegmentationModel
from alps.pretrained.cache import load_weights
from alps.structures.bands import describe_bands, describe_setting

PARTS = ("encoder", "head", "classifier", "aux_head", "aux_classifier")
#: Units that a file must contain completely or, except for the trunk, not at all.
UNITS = ("encoder.trunk", "encoder.pyramid", *PARTS[1:])
#: Last layers, with one row of weights per class.
CLASSIFIERS = ("classifier", "aux_classifier")

#: Keys of the weights in checkpoints of Lightning, timm and other frameworks.
CONTAINERS = ("state_dict", "model", "model_state_dict", "net")
#: Prefixes that frameworks add to the names of tensors; torch.compile inserts its own anywhere.
WRAPPERS = re.compile(r"^((module|model|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
#: timm's ``features_only`` models join the first two parts of a name.
JOINED = re.compile(r"^([a-z]+)_(\d+)\.")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A tensor whose shape in the file differs from its shape in the model."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.in_file}, not {self.in_model}"


@dataclass(frozen=True, slots=True)
class InitReport:
    """Loaded and remaining tensors, without those of skipped parts."""

    source: str
    parts: Mapping[str, tuple[int, int]]  # number of loaded tensors and number of tensors, by part
    missing: tuple[str, ...] = ()  # in the model, not in the file
    unused: tuple[str, ...] = ()  # in the file, not in the model
    mismatched: tuple[Mismatch, ...] = ()
    adapted: bool = False  # whether the first convolution was adapted from RGB

    def __str__(self) -> str:
        counts = [
            f"{part} {f'{loaded} of {total} tensors' if loaded else 'new'}"
            for part, (loaded, total) in self.parts.items()
        ]
        lines = [f"init from {self.source}: {', '.join(counts) or 'all skipped'}"]
        if self.adapted:
            lines.append(
                "  the first convolution was adapted to the bands: its weights of red, green and "
                "blue are repeated and scaled"
            )
        for what, names in (
            ("different in shape", [str(mismatch) for mismatch in self.mismatched]),
            ("not in the model", self.unused),
        ):
            if names:
                examples = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                lines.append(f"  {len(names)} tensors of the file are {what}: {examples}")
        return "\n".join(lines)


def load_init(
    model: SegmentationModel,
    init: str | None,
    *,
    skip: Collection[str] = (),
    strict: bool = True,
) -> InitReport:
    """Initialise the weights of a model.

    A part that the file lacks keeps its random weights, but a file without the encoder is an error.
    Every part in the file must fit. If the model has bands and the file has RGB, the first
    convolution is adapted (`Encoder.adapt_input`), and the statistics of the bands are kept. A file
    with the same bands replaces these statistics, to which its weights belong.

    Args:
        model: the model, which is changed in place unless an error is raised.
        init: None for random weights, ``imagenet`` (`Encoder.load_imagenet`), or the path of a
            training checkpoint, a state dict, or a checkpoint of the encoder with timm's names.
        skip: names of `PARTS` that are not initialised.
        strict: whether a part that fits only partially is an error; if not, its fitting tensors
            are loaded and the rest is reported.

    Returns:
        The counts and names of loaded and remaining tensors.

    Raises:
        CheckpointError: the file does not exist or belongs to a different model or other bands.
        ConfigError: ``skip`` names an unknown part.
        WeightsNotFound: the file is not a checkpoint, or no ImageNet weights are available.
    """
    if isinstance(skip, str) or (unknown := sorted(set(skip) - set(PARTS))):
        unknown = [skip] if isinstance(skip, str) else unknown
        raise ConfigError(
            f"init_skip={unknown} is not a list of parts of the model; expected some of "
            f"[{', '.join(PARTS)}]"
        )
    in_model = _select(model.state_dict(), skip)
    if init is None:
        return InitReport("random weights", _count(in_model, ()))
    if init == "imagenet":
        if "encoder" not in skip:
            model.encoder.load_imagenet()
        return InitReport(
            init,
            _count(in_model, [n for n in in_model if n.startswith(TRUNK)]),
            adapted="encoder" not in skip and model.encoder.in_channels != 3,
        )

    tensors, band_names = _read(init)
    in_file = _in_our_names(tensors, in_model)
    if "encoder" not in skip:
        _check_bands(init, band_names, model.band_names)
    if band_names != model.band_names:  # the statistics are those of RGB
        in_file = {name: value for name, value in in_file.items() if name not in NORMALISATION}
    trunk = {name.removeprefix(TRUNK): v for name, v in in_file.items() if name.startswith(TRUNK)}
    adapted = model.encoder.adapt_input(trunk)
    in_file |= {TRUNK + name: value for name, value in adapted.items()}
    in_file = _select(in_file, skip)
    common = [name for name in in_model if name in in_file]
    fitting = {
        name: in_file[name] for name in common if in_file[name].shape == in_model[name].shape
    }
    report = InitReport(
        source=init,
        parts=_count(in_model, fitting),
        missing=tuple(name for name in in_model if name not in in_file),
        unused=tuple(name for name in in_file if name not in in_model),
        mismatched=tuple(
            Mismatch(name, tuple(in_file[name].shape), tuple(in_model[name].shape))
            for name in common
            if name not in fitting
        ),
        adapted="encoder" not in skip and any(adapted[name] is not trunk[name] for name in trunk),
    )
    if strict:
        _check_classes(report)
        for unit in UNITS:
            _check_unit(unit, in_model, in_file, fitting, init)
    if in_model and not fitting:
        raise _different_model(init, "encoder", in_model, in_file, fitting)
    model.load_state_dict(fitting, strict=False)
    return report


def _read(source: str) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Read the tensors of a checkpoint, without the prefixes of wrappers in their names.

    Returns:
        The tensors, and the names of the bands; None: RGB, or a file of another program.
    """
    if not Path(source).is_file():
        raise CheckpointError(f"init={source}: no such file; expected null, imagenet or a FILE")
    content: dict[str, Any] = load_weights(source)
    description = content.get("alps")
    band_names = description.get("bands") if isinstance(description, dict) else None
    for key in CONTAINERS:
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(v, Tensor) for v in inner.values()):
            content = inner
            break
    tensors = {WRAPPERS.sub("", k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{source} contains no weights, but {', '.join(list(content)[:5]) or 'nothing'}; "
            "expected a state dict, or a dict with a state dict as state_dict"
        )
    return tensors, None if band_names is None else tuple(band_names)


def _check_bands(
    source: str, in_file: tuple[str, ...] | None, in_model: tuple[str, ...] | None
) -> None:
    """Raise `CheckpointError` if a file has bands, and the model has others or another order."""
    if in_file not in (None, in_model):
        raise CheckpointError(
            f"init={source} was trained on {describe_bands(in_file)}, but this model has "
            f"{describe_bands(in_model)}; set {describe_setting(in_file)}, or init_skip=[encoder]"
        )


def _in_our_names(state: dict[str, Tensor], in_model: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names that ALPS uses.

    Names of ALPS are unchanged, and names of mmsegmentation are translated. All tensors of other
    checkpoints are assigned to the encoder, because a ``head`` or ``classifier`` in them is not
    that of an ALPS model.
    """
    if any(name.startswith(TRUNK) for name in state):
        return state
    if is_mmseg(state):
        state = from_mmseg(state, in_model)
    else:
        prefixes = ("backbone.", "encoder.")
        prefix = next((p for p in prefixes if any(name.startswith(p) for name in state)), "")
        state = {TRUNK + WRAPPERS.sub("", n.removeprefix(prefix)): v for n, v in state.items()}
    return {name if name in in_model else _split(name): value for name, value in state.items()}


def _split(name: str) -> str:
    return TRUNK + JOINED.sub(r"\1.\2.", name[len(TRUNK) :]) if name.startswith(TRUNK) else name


def _select(state: Mapping[str, Tensor], skip: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors without skipped parts and without the batch counters of batch norms."""
    return {
        name: value
        for name, value in state.items()
        if _part(name) not in skip and not name.endswith(".num_batches_tracked")
    }


def _part(name: str) -> str:
    """Return the part that a tensor belongs to; the normalisation belongs to the encoder."""
    first = name.split(".")[0]
    return "encoder" if first in NORMALISATION else first


def _count(in_model: Collection[str], loaded: Collection[str]) -> dict[str, tuple[int, int]]:
    counts = {}
    for part in PARTS:
        if names := [name for name in in_model if name.startswith(f"{part}.")]:
            counts[part] = (sum(name in loaded for name in names), len(names))
    return counts


def _check_classes(report: InitReport) -> None:
    for mismatch in report.mismatched:
        part = _part(mismatch.name)
        if part in CLASSIFIERS and mismatch.in_file[1:] == mismatch.in_model[1:]:
            parts = ",".join(p for p in CLASSIFIERS if p in report.parts)
            raise CheckpointError(
                f"{part} has {mismatch.in_file[0]} classes in {report.source}, but "
                f"{mismatch.in_model[0]} in this model; set init_skip=[{parts}] to initialise the "
                "last layer at random"
            )


def _check_unit(
    unit: str,
    in_model: Mapping[str, Tensor],
    in_file: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    source: str,
) -> None:
    """Raise if a unit is incomplete, has extra weights in a layer, or is a missing trunk.

    Raises:
        CheckpointError: the file is a checkpoint of a different model.
    """
    expected = {name: v for name, v in in_model.items() if name.startswith(f"{unit}.")}
    actual = {name: v for name, v in in_file.items() if name.startswith(f"{unit}.")}
    if not expected or (not actual and unit != "encoder.trunk"):
        return
    # Extra weights in a layer of the model come from a different model. Extra layers, such as the
    # classifier of an encoder, are harmless.
    layers = {_layer(name) for name in expected}
    more = [
        n for n in actual if n not in expected and n.endswith(".weight") and _layer(n) in layers
    ]
    if more or expected.keys() - fitting.keys():
        raise _different_model(source, unit, expected, actual or in_file, fitting)


def _layer(name: str) -> str:
    """Return the layer that a tensor belongs to: ``encoder.trunk.layer1``, ``head.blocks``."""
    return ".".join(name.split(".")[: 3 if name.startswith("encoder.") else 2])


def _different_model(
    source: str,
    unit: str,
    expected: Mapping[str, Tensor],
    actual: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
) -> CheckpointError:
    part = unit.split(".")[0]
    shape = next((n for n in expected if n in actual and n not in fitting), None)
    missing = next((n for n in expected if n not in actual), None)
    first = next((n for n in actual if n not in expected), "nothing")
    if shape:
        difference = (
            f"{shape} has shape {tuple(actual[shape].shape)}, "
            f"expected {tuple(expected[shape].shape)}"
        )
    elif missing:
        difference = f"it has no {missing}, but {first}"
    else:
        difference = f"{first} is not in this model"
    return CheckpointError(
        f"{source} is a checkpoint of a different model: {part} has "
        f"{sum(name in fitting for name in expected)} of {len(expected)} tensors in common; "
        f"{difference}; "
        f"set model= and head= as in the run that wrote it, or init_skip=[{part}]"
    )
