"""Parity with segment_anything, on real weights and a real image."""

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from alps import rle
from alps.errors import ConfigError, WeightsNotFound
from alps.images.sample import SampleImages
from alps.masks.auto import AutoMasks
from alps.sam.build import build_sam, load_sam_state
from alps.sam.mobile import rename_keys
from alps.sam.segmenter import Embedding, SamSegmenter, load_segmenter
from alps.sam.upsample import Axis
from alps.weights import load_weights


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter("mobile")


@pytest.fixture(scope="module")
def plot(tmp_path_factory):
    """A 400 px NEON plot: trees on grass."""
    images = SampleImages(root=str(tmp_path_factory.mktemp("sample")))
    return images.read(next(r for r in images.records() if r.image_id == "OSBS_029"))


@pytest.mark.parametrize("layers", [0, 1])
def test_automatic_masks_equal_segment_anything(segmenter, plot, layers):
    ours = AutoMasks(segmenter=segmenter, points_per_side=8, crop_n_layers=layers)(plot)
    stock = SamAutomaticMaskGenerator(
        segmenter.model,
        points_per_side=8,
        points_per_batch=4,
        crop_n_layers=layers,
        output_mode="coco_rle",
    ).generate(plot.image)
    assert len(ours) == len(stock) > 5
    counts = [m["segmentation"]["counts"].encode() for m in stock]
    iou = rle.iou(ours.counts, counts, ours.size)
    assert iou.max(axis=1).mean() >= 0.99
    match = iou.argmax(axis=1)
    assert sorted(match) == list(range(len(stock)))
    for name in ("predicted_iou", "stability_score", "area"):
        expected = [stock[j][name] for j in match]
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-3)
    expected = [stock[j]["point_coords"][0] for j in match]
    np.testing.assert_allclose(ours.point_coords, expected, rtol=1e-3)


def test_embedding_and_prediction_equal_segment_anything(segmenter, plot):
    """Not square, RGB in, SAM's mean and std: the predecessor fed BGR without them."""
    image = plot.image[:260]
    predictor = SamPredictor(segmenter.model)
    predictor.set_image(image, image_format="RGB")
    embedding = segmenter.embed(image)
    torch.testing.assert_close(embedding.features[None], predictor.get_image_embedding())
    assert (embedding.size, embedding.input_size, embedding.valid) == (
        (260, 400),
        (666, 1024),
        (42, 64),
    )
    box = np.array([[40, 50, 200, 210]], np.float32)
    found = segmenter.predict(embedding, boxes=box, multimask_output=False)
    masks, iou, _ = predictor.predict(box=box[0], multimask_output=False, return_logits=True)
    rows, cols = (Axis(256, 1024, *ends) for ends in ((666, 260), (1024, 400)))
    full = rows.matrix @ found.logits[0] @ cols.matrix.T
    torch.testing.assert_close(full, torch.from_numpy(masks[0]), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.predicted_iou, torch.from_numpy(iou), rtol=1e-4, atol=1e-4)


def test_predictions_below_the_threshold_are_left_out(segmenter, plot):
    embedding = segmenter.embed(plot.image)
    points = np.array([[100, 100], [300, 200]], np.float32)
    every = segmenter.predict(embedding, points=points)
    assert every.prompt.tolist() == [0, 0, 0, 1, 1, 1]
    some = segmenter.predict(embedding, points=points, pred_iou_thresh=0.9)
    keep = every.predicted_iou > 0.9
    torch.testing.assert_close(some.logits, every.logits[keep], rtol=1e-3, atol=1e-3)
    assert some.prompt.tolist() == every.prompt[keep].tolist()


def test_the_last_embeddings_are_kept(plot):
    segmenter = SamSegmenter("mobile", keep=2)
    calls = []

    def encode(image):
        calls.append(image.shape)
        return Embedding(torch.zeros(256, 64, 64), image.shape[:2], (1024, 1024))

    segmenter._encode = encode
    a, b, c = plot.image[:100], plot.image[100:200], plot.image[200:300]
    for image in (a, b, a, b, c, b, a):
        segmenter.embed(image)
    assert len(calls) == 4  # a, b, c, and a again after c pushed it out


def test_the_official_checkpoint_loads_strictly():
    state = load_weights("mobile")
    assert len(state) == 439
    sam = build_sam("mobile")
    assert rename_keys(state).keys() == sam.state_dict().keys()
    load_sam_state(sam, "mobile", state)


def test_a_checkpoint_of_another_network_is_refused():
    state = dict(load_weights("mobile"))
    state.pop("mask_decoder.iou_token.weight")
    with pytest.raises(WeightsNotFound, match=r"not one of SAM mobile: 1 tensors missing \['mask"):
        load_sam_state(build_sam("mobile"), "mobile", state)
    with pytest.raises(ConfigError, match="unknown SAM 'vit_x'; choose one of mobile, vit_b"):
        build_sam("vit_x")


def test_features_of_the_encoder_do_not_depend_on_the_batch(segmenter):
    x = torch.randn(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        both = segmenter.model.image_encoder(x)
        one = segmenter.model.image_encoder(x[1:])
    torch.testing.assert_close(both[1:], one, rtol=1e-3, atol=1e-4)


def test_nothing_is_loaded_before_the_first_image():
    segmenter = SamSegmenter("vit_h")
    assert segmenter.identity["sam.sha256"].startswith("a7bf3b02")
    assert "model" not in segmenter.__dict__
