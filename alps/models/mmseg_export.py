"""Export of models for mmsegmentation, which need not be installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from torch import Tensor

import alps
from alps.errors import ConfigError
from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN, GROUPS
from alps.models.heads.mmseg import MmsegHead
from alps.models.heads.upernet import POOL_SCALES, UPerNet
from alps.models.mmseg_names import NORMALISATION, TRUNK, mmseg_name
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder
from alps.rasters.view import View
from alps.structures.bands import describe_bands
from alps.structures.records import Category

CONFIG, WEIGHTS = "config.py", "weights.pth"
BN = {"type": "BN", "requires_grad": True}

#: Comment on models of rasters.
VIEW = "# mmsegmentation does not convert rasters: give it images that contain exactly this."

#: Configuration of a test set in the layout of folder_pair.
TEST = """
# tools/test.py CONFIG WEIGHTS of mmsegmentation scores a folder of images and labels:
#   --cfg-options test_dataloader.dataset.data_root=DIR
# Images that fit in one window get the same logits as in ALPS. In overlaps of windows,
# mmsegmentation averages logits, ALPS probabilities.
test_pipeline = [
    dict(type='{loader}'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root='data',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        img_suffix='{suffix}',
        seg_map_suffix='.png',
        metainfo=metainfo,
        ignore_index=ignore_index,
        reduce_zero_label=reduce_zero_label,
        pipeline=test_pipeline))
test_evaluator = dict(
    type='IoUMetric', iou_metrics=['mIoU', 'mFscore'], ignore_index=ignore_index)
test_cfg = dict(type='TestLoop')
"""


def write_mmseg(
    model: SegmentationModel,
    folder: str | Path,
    *,
    categories: Sequence[Category],
    ignore_index: int,
    crop: int,
    stride: int,
    reduce_zero_label: bool = False,
    title: str = "",
    view: View | None = None,
) -> None:
    """Write ``config.py`` and ``weights.pth`` for the tools of mmsegmentation.

    Args:
        model: the model. Its encoder becomes a ``TIMMBackbone`` of the same timm model. The
            feature pyramid of a plain ViT has no equivalent in mmsegmentation, so the configuration
            uses `Encoder` of ALPS, which must then be installed.
        folder: output folder, created if missing.
        categories: the classes.
        ignore_index: value of label pixels that are not scored.
        crop: side of the sliding windows, in pixels.
        stride: distance between neighbouring windows, in pixels.
        reduce_zero_label: whether label files number the classes from 1.
        title: text of the first comment of the configuration.
        view: how the rasters were read that the model was trained on. mmsegmentation reads images
            as they are, so a comment of the configuration describes what they must contain.

    Raises:
        ConfigError: mmsegmentation has no equivalent of the head or reads no images with one band,
            or the files already exist.
    """
    config, weights = Path(folder, CONFIG), Path(folder, WEIGHTS)
    for path in (config, weights):
        if path.exists():
            raise ConfigError(f"{path} exists already; set a new folder with output=DIR")
    if model.band_names is not None and len(model.band_names) == 1:
        raise ConfigError(
            f"mmsegmentation reads no images with one band, but the model was trained on "
            f"{describe_bands(model.band_names)}; train on two bands or more to export a model"
        )
    meta = {
        "classes": tuple(category.name for category in categories),
        "palette": [list(category.color) for category in categories],
    }
    model_config = mmseg_config(model, ignore_index=ignore_index, crop=crop, stride=stride)
    state = mmseg_state(model)
    variables = {
        "metainfo": meta,
        "ignore_index": ignore_index,
        "reduce_zero_label": reduce_zero_label,
        "model": model_config,
    }
    title = " ".join(title.split())  # a second line would be code
    text = [f"# {title or 'A model of ALPS'}, written by ALPS {alps.__version__}"]
    text += ["default_scope = 'mmseg'"]
    text += [
        f"{name} = {pformat(value, width=96, sort_dicts=False)}"
        for name, value in variables.items()
    ]
    config.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"meta": {"dataset_meta": meta}, "state_dict": state}, weights)
    test = TEST.replace("{loader}", "LoadImageFromFile").replace("{suffix}", ".png")
    if view is not None:
        text.insert(1, f"# The model was trained on {' '.join(view.describe().split())}.")
        text.insert(2, VIEW)
    if model.band_names is not None:
        names = " ".join(", ".join(model.band_names).split())
        text.insert(1, f"# The bands of an image are, in this order: {names}")
        test = TEST.replace("{loader}", "LoadSingleRSImageFromFile").replace("{suffix}", ".tif")
    config.write_text("\n".join(text) + "\n" + test, encoding="utf-8")


def mmseg_config(
    model: SegmentationModel, *, ignore_index: int, crop: int, stride: int
) -> dict[str, Any]:
    """Return the ``model`` dictionary of a configuration.

    Args:
        model: the model.
        ignore_index: value of label pixels that are not scored.
        crop: side of the sliding windows, in pixels.
        stride: distance between neighbouring windows, in pixels.

    Raises:
        ConfigError: mmsegmentation has no equivalent of the head.
    """
    encoder, statistics = model.encoder, model.statistics
    common = {
        "num_classes": model.num_classes,
        "align_corners": False,
        "ignore_index": ignore_index,
    }
    neck, head = _decoder(model.head, encoder)
    config = {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": list((statistics or encoder).mean),
            "std": list((statistics or encoder).std),
            "bgr_to_rgb": statistics is None,
            "pad_val": 0,
            "seg_pad_val": ignore_index,
            "size": (crop, crop),
            "test_cfg": {"size_divisor": encoder.divisor},
        },
        "backbone": _backbone(encoder),
        "decode_head": {**head, **common},
        "train_cfg": {},
        "test_cfg": {"mode": "slide", "crop_size": (crop, crop), "stride": (stride, stride)},
    }
    if neck:
        config["neck"] = neck
    if isinstance(model.aux_head, FCN):
        config["auxiliary_head"] = {**_auxiliary(model.aux_head, encoder), **common}
    return config


def mmseg_state(model: SegmentationModel) -> dict[str, Tensor]:
    """Return the weights under mmsegmentation's names."""
    encoder = "backbone." if model.encoder.pyramid else "backbone.timm_model.model."
    state = {}
    for name, value in model.state_dict().items():
        if name in NORMALISATION:
            continue
        if name.startswith("encoder."):
            inner = name.removeprefix("encoder." if model.encoder.pyramid else TRUNK)
            state[encoder + inner] = value
        else:
            state[mmseg_name(name)] = value
    # Contiguous, as checkpoints usually are, instead of channels last.
    return {name: value.contiguous() for name, value in state.items()}


def _backbone(encoder: Encoder) -> dict[str, Any]:
    if encoder.pyramid:
        return {
            "type": "alps.pretrained.encoder.Encoder",
            "name": encoder.name,
            "in_channels": encoder.in_channels,
        }
    return {
        "type": "TIMMBackbone",
        "model_name": encoder.name,
        "pretrained": False,
        "in_channels": encoder.in_channels,
        "feature_cls": "getter",
        "out_indices": tuple(encoder.indices),
        **encoder.any_size,
    }


def _decoder(head: Any, encoder: Encoder) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Return the settings of the neck (None if there is none) and of the head."""
    if isinstance(head, MmsegHead):
        return None, head.settings
    levels = list(range(len(encoder.channels)))
    if isinstance(head, UPerNet):
        return None, {
            "type": "UPerHead",
            "in_channels": list(encoder.channels),
            "in_index": levels,
            "pool_scales": POOL_SCALES,
            "channels": head.channels,
            "dropout_ratio": head.dropout.p,
            "norm_cfg": BN,
        }
    if isinstance(head, FPN):
        width = head.pyramid.layer_blocks[0][0].out_channels
        neck = {
            "type": "FPN",
            "in_channels": list(encoder.channels),
            "out_channels": width,
            "num_outs": len(levels),
        }
        return neck, {
            "type": "FPNHead",
            "in_channels": [width] * len(levels),
            "in_index": levels,
            "feature_strides": list(encoder.strides),
            "channels": head.channels,
            "dropout_ratio": head.dropout.p,
            "norm_cfg": {"type": "GN", "num_groups": GROUPS, "requires_grad": True},
        }
    raise ConfigError(
        f"mmsegmentation has no head like {type(head).__name__}; only models with head=upernet, "
        "fpn or mmseg can be exported"
    )


def _auxiliary(head: FCN, encoder: Encoder) -> dict[str, Any]:
    return {
        "type": "FCNHead",
        "in_channels": encoder.channels[head.level],
        "in_index": head.level,
        "channels": head.channels,
        "num_convs": 1,
        "concat_input": False,
        "dropout_ratio": head.dropout.p,
        "norm_cfg": BN,
        "loss_decode": {"type": "CrossEntropyLoss", "loss_weight": 0.4},
    }
