"""Scenes with ground truth, and stores with labels of any quality."""

import numpy as np

from alps.assign.cluster import cluster_categories
from alps.errors import LabelError
from alps.labelling.shard import assign_shard, label_shard
from alps.metrics.masks import find_regions, oracle, region_masks
from alps.store.plan import prepare
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, ImageRecord, Sample
from tests.factories import draw_labels

G, IGNORE = 4, 255


NAMES = ("ground", "roof", "road", "tree")


class Truth:
    """Scenes with ground truth in memory; a target that is a string cannot be used."""

    name, root, ignore_index, protocol = "scenes", "/data/of/someone", IGNORE, "scenes: 4 classes"

    def __init__(self, splits=("train", "val"), n=3):
        self.images, self.targets = {}, {}
        for s, split in enumerate(splits):
            for i in range(n):
                image, target = draw_labels((40, 48), 10 * s + i, G)
                target[-2:] = IGNORE
                self.images[f"{split}/{i}"], self.targets[f"{split}/{i}"] = image, target

    def records(self):
        return [ImageRecord(i, f"{i}.png", split=i.split("/")[0]) for i in self.images]

    def read(self, record):
        return Sample(record.image_id, self.images[record.image_id])

    def categories(self):
        colors = distinct_colors(G)
        return [Category(i, name, colors[i]) for i, name in enumerate(NAMES)]

    def read_target(self, record):
        target = self.targets[record.image_id]
        if isinstance(target, str):
            raise LabelError(f"cannot read {self.root}/{record.file_name}: {target}")
        return target


class Regions:
    """The masks are the regions of the ground truth."""

    identity = {"source": "regions"}  # noqa: RUF012 - read only

    def __init__(self, truth):
        self.truth = truth

    def prefetch(self, samples):
        """Nothing is slow here."""

    def __call__(self, sample):
        return region_masks(find_regions(self.truth.targets[sample.image_id], IGNORE), 0)


class Given:
    """A mask gets the cluster that a function makes of its class and its image."""

    identity = {"assigner": "given"}  # noqa: RUF012 - read only

    def __init__(self, truth, k, cluster):
        self.truth, self.num_classes, self.cluster = truth, k, cluster

    def fit(self, blocks, areas):
        return None

    def assign(self, features, clusters, image_id, masks):
        target = self.truth.targets[image_id]
        masks = region_masks(find_regions(target, IGNORE), 0)
        classes = oracle(masks, target, G, IGNORE)
        ids = [self.cluster(c, image_id, i) for i, c in enumerate(classes)]
        return np.array(ids, np.int32), np.full(len(ids), np.nan, np.float32)

    def paint(self, masks, category_id, ignore_index):
        return paint(masks, category_id, ignore_index)

    def categories(self):
        return cluster_categories(self.num_classes)


def make(root, truth, cluster, k=G, overwrite=None):
    """Make a store with labels as `label` does, without its report, which takes longer."""
    masks, assign = Regions(truth), Given(truth, k, cluster)
    store = prepare(
        root,
        name="scenes_pl",
        images={"root": truth.root},
        records=truth.records(),
        identities={"masks": masks.identity, "assign": assign.identity},
        num_classes=k,
        ignore_index=IGNORE,
        versions={},
        shard_size=2,
        overwrite=overwrite,
    )
    store.write_categories(assign.categories())
    for shard in range(len(store.plan)):
        for _ in label_shard(shard, store=store, image_set=truth, masks=masks, features=None):
            pass
        assign_shard(shard, store=store, assign=assign, clusters=None)
    return store


def by_lot(k):
    rng = np.random.default_rng(0)
    return lambda c, image_id, i: int(rng.integers(k))
