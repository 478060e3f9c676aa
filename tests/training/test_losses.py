import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from alps.errors import ConfigError
from alps.training.losses import CrossEntropy


def batch(ignore_index=255, k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, k, 6, 7, generator=generator)
    target = torch.randint(k, (2, 6, 7), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = ignore_index
    return logits, target


@pytest.mark.parametrize("ignore_index", [255, 65535, 0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 0.0, 3.0]])
def test_one_process_equals_torch(ignore_index, smoothing, weights):
    logits, target = batch(ignore_index)
    ours = CrossEntropy(
        ignore_index=ignore_index, label_smoothing=smoothing, class_weights=weights
    )(logits, target)
    weight = None if weights is None else torch.tensor(weights)
    theirs = F.cross_entropy(
        logits, target, weight, ignore_index=ignore_index, label_smoothing=smoothing
    )
    assert_close(ours, theirs)


def test_a_batch_without_labels_has_no_loss_and_no_gradient():
    logits, target = batch()
    logits.requires_grad_()
    loss = CrossEntropy(ignore_index=255)(logits, torch.full_like(target, 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_unlabelled_pixels_do_not_count():
    logits, target = batch()
    loss = CrossEntropy(ignore_index=255)
    changed = torch.where(target[:, None] == 255, torch.randn(logits.shape), logits)
    assert_close(loss(logits, target), loss(changed, target))


def test_half_precision_is_summed_in_full():
    logits, target = batch()
    loss = CrossEntropy(ignore_index=255)(logits.bfloat16(), target)
    assert loss.dtype == torch.float32
    assert math.isclose(
        loss.item(), CrossEntropy(ignore_index=255)(logits, target).item(), rel_tol=0.01
    )


@pytest.mark.parametrize("weights", [[0.0], [0.0, 0.0, 0.0]])
def test_weights_that_leave_nothing_to_learn(weights):
    with pytest.raises(
        ConfigError, match=r"class_weights=\[.*\]: expected null or a list .* at least one is"
    ):
        CrossEntropy(ignore_index=255, class_weights=weights)
