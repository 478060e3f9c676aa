"""Former import paths of public classes (up to e2724f9); to be removed after one release.

Checkpoints and configurations of that time use the former paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Former path to current path.
OLD_NAMES: Mapping[str, str] = {
    "alps.assign.baselines.Binary": "alps.assign.Binary",
    "alps.assign.baselines.Random": "alps.assign.Random",
    "alps.assign.category.ByCategory": "alps.assign.ByCategory",
    "alps.assign.cluster.Cluster": "alps.assign.Cluster",
    "alps.engine.local.LocalEngine": "alps.labelling.LocalEngine",
    "alps.engine.ray.RayEngine": "alps.labelling.RayEngine",
    "alps.features.joined.JoinedFeatures": "alps.features.JoinedFeatures",
    "alps.features.sam.SamFeatures": "alps.features.SamFeatures",
    "alps.features.shape.ShapeFeatures": "alps.features.ShapeFeatures",
    "alps.features.sscd.SscdFeatures": "alps.features.SscdFeatures",
    "alps.features.stored.StoredFeatures": "alps.features.StoredFeatures",
    "alps.features.timm.TimmFeatures": "alps.features.TimmFeatures",
    "alps.images.atlas2023.Atlas2023": "alps.images.Atlas2023",
    "alps.images.coco.Coco": "alps.images.Coco",
    "alps.images.dior.Dior": "alps.images.Dior",
    "alps.images.dota.Dota": "alps.images.Dota",
    "alps.images.fair1m.Fair1m": "alps.images.Fair1m",
    "alps.images.folder.Folder": "alps.images.Folder",
    "alps.images.folder_pair.FolderPair": "alps.images.FolderPair",
    "alps.images.hrsc2016.Hrsc2016": "alps.images.Hrsc2016",
    "alps.images.isaid.Isaid": "alps.images.Isaid",
    "alps.images.loveda.LoveDA": "alps.images.LoveDA",
    "alps.images.potsdam.Potsdam": "alps.images.Potsdam",
    "alps.images.sample.SampleImages": "alps.images.SampleImages",
    "alps.images.samrs.Samrs": "alps.images.Samrs",
    "alps.images.samrs_boxes.SamrsBoxes": "alps.images.SamrsBoxes",
    "alps.images.samrs_labels.SamrsLabels": "alps.images.SamrsLabels",
    "alps.images.stored.StoredLabels": "alps.images.StoredLabels",
    "alps.images.table.Table": "alps.images.Table",
    "alps.images.vaihingen.Vaihingen": "alps.images.Vaihingen",
    "alps.images.video.VideoBoxes": "alps.images.VideoBoxes",
    "alps.images.video_masks.VideoMasks": "alps.images.VideoMasks",
    "alps.images.voc.Voc": "alps.images.Voc",
    "alps.images.volumes.Volumes": "alps.images.Volumes",
    "alps.masks.auto.AutoMasks": "alps.masks.AutoMasks",
    "alps.masks.box.BoxMasks": "alps.masks.BoxMasks",
    "alps.masks.cover.CoverMasks": "alps.masks.AutoMasks",
    "alps.masks.stored.StoredMasks": "alps.masks.StoredMasks",
    "alps.models.heads.fpn.FPN": "alps.models.heads.FPN",
    "alps.models.heads.mmseg.MmsegHead": "alps.models.heads.MmsegHead",
    "alps.models.heads.unet.UNet": "alps.models.heads.UNet",
    "alps.models.heads.upernet.UPerNet": "alps.models.heads.UPerNet",
    "alps.sam.segmenter.load_segmenter": "alps.sam.load_segmenter",
    "alps.training.callbacks.Pictures": "alps.training.Pictures",
    "alps.training.callbacks.ProgressBar": "alps.training.ProgressBar",
    "alps.training.callbacks.ScoreLines": "alps.training.ScoreLines",
    "alps.training.callbacks.Speed": "alps.training.Speed",
    "alps.training.losses.CrossEntropy": "alps.training.CrossEntropy",
    "alps.training.optim.Optim": "alps.training.Optim",
    "alps.training.sliding.SlidingWindow": "alps.prediction.SlidingWindow",
}
_TARGET = re.compile(r"(_target_: *)(alps\.[\w.]+)")


def rename_targets(config: str) -> str:
    """Return a YAML configuration with former import paths replaced by current ones.

    >>> rename_targets("_target_: alps.images.folder.Folder")
    '_target_: alps.images.Folder'
    """
    return _TARGET.sub(lambda match: match[1] + OLD_NAMES.get(match[2], match[2]), config)
