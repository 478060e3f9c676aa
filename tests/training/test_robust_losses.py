import numpy as np
import pytest
import torch
from torch.testing import assert_close

from alps.errors import ConfigError
from alps.training.losses import CrossEntropy
from alps.training.robust_losses import (
    BootstrappedCrossEntropy,
    GeneralizedCrossEntropy,
    SymmetricCrossEntropy,
)
from tests.training.test_losses import batch
from tests.training.test_synchronisations import Synchronisations

WEIGHTS = [1.0, 2.0, 0.5, 0.0, 3.0]
LOSSES = [
    GeneralizedCrossEntropy,
    SymmetricCrossEntropy,
    BootstrappedCrossEntropy,
    lambda **options: BootstrappedCrossEntropy(beta=0.95, hard=False, **options),
]


def generalized(p, label, q=0.7):
    return (1 - p[label] ** q) / q


def symmetric(p, label, alpha=0.1, beta=1.0):
    one_hot = np.eye(len(p))[label]
    reverse = -(p * np.log(np.maximum(one_hot, np.exp(-4)))).sum()
    return -alpha * np.log(p[label]) + beta * reverse


def hard_bootstrapped(p, label, beta=0.8):
    target = beta * np.eye(len(p))[label] + (1 - beta) * np.eye(len(p))[p.argmax()]
    return -(target * np.log(p)).sum()


def soft_bootstrapped(p, label, beta=0.95):
    target = beta * np.eye(len(p))[label] + (1 - beta) * p
    return -(target * np.log(p)).sum()


@pytest.mark.parametrize("ignore_index", [255, 0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    ("build", "formula"),
    [
        (LOSSES[0], generalized),
        (LOSSES[1], symmetric),
        (LOSSES[2], hard_bootstrapped),
        (LOSSES[3], soft_bootstrapped),
    ],
)
def test_the_loss_is_the_weighted_mean_of_the_formula(build, formula, weights, ignore_index):
    logits, target = batch(ignore_index)
    probabilities = logits.double().softmax(1).movedim(1, -1).reshape(-1, 5).numpy()
    pixels = [
        (formula(p, label), 1.0 if weights is None else weights[label])
        for p, label in zip(probabilities, target.flatten().tolist(), strict=True)
        if label != ignore_index
    ]
    values, factors = np.array(pixels).T
    loss = build(ignore_index=ignore_index, class_weights=weights)(logits, target)
    assert loss.item() == pytest.approx(np.average(values, weights=factors), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    "build",
    [
        lambda **options: GeneralizedCrossEntropy(q=1e-6, **options),
        lambda **options: SymmetricCrossEntropy(alpha=1.0, beta=0.0, **options),
        lambda **options: BootstrappedCrossEntropy(beta=1.0, **options),
    ],
)
def test_the_limit_is_cross_entropy(build, weights):
    logits, target = batch()
    options = {"ignore_index": 255, "class_weights": weights}
    assert_close(build(**options)(logits, target), CrossEntropy(**options)(logits, target))


def test_generalized_cross_entropy_with_q_1_is_half_the_mean_absolute_error():
    logits, target = batch()
    labelled = target != 255
    one_hot = torch.eye(5)[target[labelled]]
    error = (logits.softmax(1).movedim(1, -1)[labelled] - one_hot).abs().sum(1).mean()
    loss = GeneralizedCrossEntropy(ignore_index=255, q=1.0)(logits, target)
    assert_close(loss, error / 2)


@pytest.mark.parametrize("build", LOSSES[:3])
def test_a_confidently_contradicted_label_has_less_influence(build):
    def influence(criterion):
        logits = torch.tensor([[6.0, 0.1], [0.0, 0.0]]).view(1, 2, 1, 2).requires_grad_()
        target = torch.tensor([1, 0]).view(1, 1, 2)  # contradicted, and barely confirmed
        criterion(logits, target).backward()
        contradicted, confirmed = logits.grad.abs().sum((0, 1, 2))
        return (contradicted / confirmed).item()

    assert influence(build(ignore_index=255)) < 0.9 * influence(CrossEntropy(ignore_index=255))


@pytest.mark.parametrize("build", LOSSES)
def test_a_batch_without_labels_has_no_loss_and_no_gradient(build):
    logits, target = batch()
    logits.requires_grad_()
    loss = build(ignore_index=255)(logits, torch.full_like(target, 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("build", LOSSES)
def test_extreme_logits_in_bfloat16_have_finite_gradients_in_float32_sums(build):
    logits, target = batch()
    logits = (1e4 * logits).bfloat16().requires_grad_()
    loss = build(ignore_index=255)(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("build", LOSSES)
def test_no_loss_waits_for_the_device(build, weights):
    logits, target = batch()
    criterion = build(ignore_index=255, class_weights=weights)
    with Synchronisations() as mode:
        criterion(logits, target)
    assert mode.counts.total() == 0


@pytest.mark.parametrize(
    ("build", "setting", "value", "expected"),
    [
        (GeneralizedCrossEntropy, "q", 0.0, "a number > 0 and <= 1"),
        (SymmetricCrossEntropy, "alpha", 0.0, "a weight > 0"),
        (SymmetricCrossEntropy, "beta", -1.0, "a weight >= 0"),
        (BootstrappedCrossEntropy, "beta", 1.5, "a fraction > 0 and <= 1"),
    ],
)
def test_a_number_out_of_range_is_an_error(build, setting, value, expected):
    with pytest.raises(ConfigError, match=rf"{setting}={value}: expected {expected}"):
        build(ignore_index=255, **{setting: value})
