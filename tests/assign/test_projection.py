"""Principal components against scikit-learn, and the unit sphere."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from alps.assign.projection import fit_pca, project, unit
from alps.assign.rows import Rows
from alps.errors import ConfigError, TooFewMasks


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((600, 12)) @ rng.standard_normal((12, 12)) + 3
    return mixed.astype(np.float16)


@pytest.mark.parametrize("whiten", [0.0, 1.0])
@pytest.mark.parametrize("dim", [1, 5, 12])
def test_the_components_are_those_of_sklearn(features: np.ndarray, dim: int, whiten: float) -> None:
    mean, components = fit_pca(Rows([features]), dim, whiten=whiten, batch_size=64)
    x = features.astype(np.float32)
    peer = PCA(dim, whiten=bool(whiten)).fit(x)
    ours, theirs = project(x, mean, components), peer.transform(x)
    # The sign of a component is free.
    theirs *= np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)
    assert components.shape == (dim, 12)
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(dim), largest] > 0).all()


def test_the_cut_into_blocks_cannot_be_seen(features: np.ndarray) -> None:
    whole = fit_pca(Rows([features]), 4, whiten=1.0, batch_size=50)
    cut = fit_pca(Rows(np.array_split(features, 7)), 4, whiten=1.0, batch_size=50)
    assert [a.tobytes() for a in whole] == [a.tobytes() for a in cut]


def test_groups_have_the_components_that_they_have_alone(features: np.ndarray) -> None:
    mean, components = fit_pca(Rows([features]), 5, whiten=0.5, batch_size=64, groups=[9, 3])
    alone = [
        fit_pca(Rows([group]), dim, whiten=0.5, batch_size=64)
        for group, dim in ((features[:, :9], 5), (features[:, 9:], 3))
    ]
    np.testing.assert_allclose(mean, np.concatenate([group[0] for group in alone]), rtol=1e-6)
    np.testing.assert_allclose(components[:5, :9], alone[0][1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(components[5:, 9:], alone[1][1], rtol=1e-5, atol=1e-6)
    assert not components[:5, 9:].any()
    assert not components[5:, :9].any()


def test_rows_of_groups_count_with_their_weights(features: np.ndarray) -> None:
    counts = np.random.default_rng(0).integers(1, 4, len(features))
    options = {"whiten": 0.0, "batch_size": 64, "groups": [12]}
    weighted = fit_pca(Rows([features], weights=counts.astype(np.float32)), 4, **options)
    repeated = fit_pca(Rows([np.repeat(features, counts, axis=0)]), 4, **options)
    for a, b in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_whitening_does_not_blow_up_rounding(features: np.ndarray) -> None:
    flat = features.copy()
    flat[:, 3] = flat[:, 2]  # only 11 directions are left
    mean, components = fit_pca(Rows([flat]), 12, whiten=1.0, batch_size=64)
    spread = project(flat.astype(np.float32), mean, components).std(axis=0)
    np.testing.assert_allclose(spread[:11], 1, rtol=1e-3)
    assert spread[11] < 0.1


def test_more_components_than_channels_or_masks_are_refused(features: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"assign\.pca is 13, .* have 12 channels.*pca=null"):
        fit_pca(Rows([features]), 13, whiten=0.0, batch_size=64)
    with pytest.raises(TooFewMasks, match=r"5 masks are too few for 5 .* assign\.pca below 5"):
        fit_pca(Rows([features[:5]]), 5, whiten=0.0, batch_size=64)


def test_unit_rows_have_length_1_and_zeros_stay() -> None:
    rows = np.array([[3, 4], [0, 0], [1e-10, 0]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
