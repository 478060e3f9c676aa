import numpy as np
import torch

from alps.masks.screen import pick_prompts
from alps.sam.protocol import Prediction


def predict(masks, scores, prompts=None):
    """Masks as (top, left, bottom, right) of one rectangle each, on 32 × 32."""
    logits = torch.full((len(masks), 32, 32), -9.0)
    for logit, (top, left, bottom, right) in zip(logits, masks, strict=True):
        logit[top:bottom, left:right] = 9.0
    prompt = torch.arange(len(masks)) if prompts is None else torch.tensor(prompts)
    return Prediction(logits, torch.tensor(scores), prompt, torch.zeros_like(prompt))


def pick(*found):
    return pick_prompts(found, 1.0, 0.95).tolist()


HALF, MOST, CORNER = (0, 0, 16, 32), (0, 0, 30, 32), (0, 0, 4, 4)


def test_of_equal_masks_the_best_prompt_stays():
    found = predict([HALF, CORNER, HALF, HALF], [0.7, 0.6, 0.9, 0.8])
    assert pick(found) == [1, 2]


def test_nearly_equal_masks_are_one_and_overlapping_ones_are_two():
    assert pick(predict([(0, 0, 20, 32), (0, 0, 20, 31)], [0.9, 0.8])) == [0]  # IoU 0.969
    assert pick(predict([(0, 0, 20, 32), (0, 0, 18, 32)], [0.9, 0.8])) == [0, 1]  # 0.9


def test_a_prompt_stays_for_any_of_its_masks():
    masks = [HALF, CORNER, HALF, MOST]
    assert pick(predict(masks, [0.9, 0.8, 0.7, 0.6], prompts=[0, 0, 1, 1])) == [0, 1]
    assert pick(predict([*masks[:3], CORNER], [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1])) == [0]


def test_batches_are_one_set():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 3, (40, 2)) * 8
    masks = [(y, x, y + 8, x + 8) for y, x in corners]
    whole = predict(masks, rng.random(40).astype(np.float32).tolist())
    parts = [
        Prediction(*(getattr(whole, f)[i : i + 7] for f in Prediction.__dataclass_fields__))
        for i in range(0, 40, 7)
    ]
    assert pick(*parts) == pick(whole)
    assert len(pick(whole)) == len(set(masks)) == 9


def test_nothing_found_nothing_picked():
    assert pick() == []
    assert pick(predict([(0, 0, 0, 0)], [0.9])) == []  # an empty mask


def test_masks_that_are_far_from_stable_are_not_worth_it():
    unsure = torch.zeros(1, 32, 32)  # no logit above the offset: stability 0
    where = torch.zeros(1, dtype=torch.long)
    assert pick(Prediction(unsure, torch.ones(1), where, where)) == []
