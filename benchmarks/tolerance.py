"""Compare tolerances of k-means with scikit-learn's MiniBatchKMeans: quality, inertia, time.

python -m benchmarks.tolerance [--masks STORE...] [--seeds 12] [--keep DIR] [--markdown FILE]

Clusters potsdam224's patches by the features of ``recipe=alps``: the masks of label stores (see
benchmarks.labels), or, without stores, squares of 16 px. Clusters, and the class assigned to each,
are fitted on train and scored on val. Prints means over the seeds and their standard errors; the
differences and ratios are paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16, Float32, Int
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from alps.assign.cluster import Cluster
from alps.assign.kmeans import fit_kmeans, lloyd_sums, nearest
from alps.assign.rows import Rows
from alps.features.joined import JoinedFeatures
from alps.features.shape import ShapeFeatures
from alps.features.timm import TimmFeatures
from alps.images.pixels.folder_pair import FolderPair
from alps.metrics.clustering import Contingency, agreement, contingency, majority, scores
from alps.structures.paint import ignore_index_for, paint
from benchmarks.measure import arguments, cpu_seconds, markdown, one_thread, show
from benchmarks.methods import SQUARE, train_of
from benchmarks.patches import (
    IGNORE_INDEX,
    NUM_CLASSES,
    Patch,
    load_patches,
    mask_features,
    squares,
)

BATCH = 4096
TOLERANCES = (1e-5, 1e-4, 3e-4, 1e-3)
BASELINE, PEER = "tol=1e-05", "MiniBatchKMeans"
COLUMNS = ("accuracy, %", "difference", "NMI, %", "difference", "inertia / peer's", "CPU / peer's")

Rows16 = Float16[np.ndarray, "n C"]
Fit = Callable[[int, int], Float32[np.ndarray, "K C"]]
Trials = Mapping[str, Float[np.ndarray, "seeds 4"]]  # accuracy, NMI, inertia, CPU seconds


def cut_into_squares(root: Path) -> list[Patch]:
    """Return all patches, with squares as masks."""
    truth = FolderPair(root=str(root))
    return [
        Patch(sample, truth.read_target(record), squares(sample.size, SQUARE), record.split)
        for record in truth.records()
        for sample in [truth.read(record)]
    ]


def count_visible(patches: Sequence[Patch]) -> Contingency:
    """Count the visible pixels of all masks by class."""
    tables = [
        contingency(
            paint(patch.masks, np.arange(len(patch.masks)), nothing),
            *(patch.target, len(patch.masks), NUM_CLASSES),
            unlabelled=nothing,
            ignore_index=IGNORE_INDEX,
        )
        for patch in patches
        for nothing in [ignore_index_for(len(patch.masks))]
    ]
    return Contingency(
        np.concatenate([table.counts for table in tables]),
        np.sum([table.unlabelled for table in tables], axis=0),
    )


def group_masks(visible: Contingency, cluster: Int[np.ndarray, " n"], k: int) -> Contingency:
    """Add up the pixels of the masks of each cluster."""
    counts = np.zeros((k, NUM_CLASSES), np.int64)
    np.add.at(counts, cluster, visible.counts)
    return Contingency(counts, visible.unlabelled)


def fits(rows: Rows16, areas: Float32[np.ndarray, " n"]) -> dict[str, Fit]:
    """Return the functions to compare, from k and a seed to centroids."""

    def ours(tol: float, k: int, seed: int) -> Float32[np.ndarray, "K C"]:
        settings = {"niter": Cluster().niter, "batch_size": BATCH}
        return fit_kmeans(Rows([rows], weights=areas), k, tol=tol, seed=seed, **settings).centroids

    def peer(k: int, seed: int) -> Float32[np.ndarray, "K C"]:
        kmeans = MiniBatchKMeans(k, batch_size=BATCH, random_state=seed)
        kmeans.fit(rows.astype(np.float32), sample_weight=areas)
        return kmeans.cluster_centers_.astype(np.float32)

    return {**{f"tol={tol:g}": partial(ours, tol) for tol in TOLERANCES}, PEER: peer}


def run_trials(
    k: int,
    seeds: int,
    train: Rows16,
    val: Rows16,
    areas: Float32[np.ndarray, " n"],
    visible: Mapping[str, Contingency],
) -> Trials:
    """Fit and score all peers with each seed; each seed starts with another peer."""
    peers = fits(train, areas)
    names = list(peers)
    trials = {name: np.zeros((seeds, 4)) for name in names}
    for seed in tqdm(range(seeds), f"K = {k}", unit="seed"):
        for name in np.roll(names, seed).tolist():
            centroids, seconds = cpu_seconds(partial(peers[name], k, seed))
            learnt, scored = (
                group_masks(visible[split], nearest(rows.astype(np.float32), centroids)[0], k)
                for split, rows in (("train", train), ("val", val))
            )
            trials[name][seed] = (
                100 * scores(scored, majority(learnt)).OA,
                100 * agreement(scored).nmi,
                lloyd_sums(Rows([train], weights=areas), centroids, BATCH).inertia,
                seconds,
            )
    return trials


def mean(values: Float[np.ndarray, " n"], places: int) -> str:
    """Return the mean and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{places}f} ± {error:.{places}f}"


def tabulate(trials: Trials) -> list[list[str]]:
    """Return a row per peer, with differences from the baseline and ratios to the peer."""
    rows = []
    for name, values in trials.items():
        accuracy, nmi, _, _ = values.T
        row = [name]
        for score, baseline in zip((accuracy, nmi), trials[BASELINE].T, strict=False):
            row += [f"{score.mean():.1f}", "" if name == BASELINE else mean(score - baseline, 2)]
        rows.append([*row, *(mean(r, 3) for r in (values / trials[PEER]).T[2:])])
    return rows


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--masks", type=Path, nargs="+", help="label stores; default: squares")
    parser.add_argument("--k", type=int, nargs="+", default=[16, 46, 128], help="clusters")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--keep", type=Path, help="folder for the features")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown, too")
    args = parser.parse_args()
    one_thread()
    root = args.data / "potsdam224"
    patches = load_patches(args.masks, root) if args.masks else cut_into_squares(root)
    patches.sort(key=lambda patch: patch.split)  # train first
    timm = TimmFeatures(device="cpu")
    joined = JoinedFeatures(parts={"timm": timm, "shape": ShapeFeatures()})
    blocks = [rows.astype(np.float16) for rows in mask_features(patches, joined, args.keep)[0]]
    n = train_of(patches)
    train, val = np.concatenate(blocks[:n]), np.concatenate(blocks[n:])
    areas = np.concatenate([patch.masks.area for patch in patches[:n]]).astype(np.float32)
    visible = {"train": count_visible(patches[:n]), "val": count_visible(patches[n:])}
    tables = []
    with threadpool_limits(1):
        for k in args.k:
            rows = tabulate(run_trials(k, args.seeds, train, val, areas, visible))
            title = f"K = {k}, {len(train):,} rows, {args.seeds} seeds"
            show(title, ["", *COLUMNS], rows)
            tables.append(f"{title}\n\n{markdown(['', *COLUMNS], rows)}")
    if args.markdown:
        args.markdown.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
