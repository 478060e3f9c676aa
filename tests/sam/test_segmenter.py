"""Parity with segment_anything, on real weights and a real image."""

import pickle

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from alps.errors import ConfigError, PromptError, Unavailable, WeightsNotFound
from alps.features.sam import SamFeatures
from alps.images.plain.sample import SampleImages
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.pretrained.cache import load_weights
from alps.sam.build import build_sam, load_sam_state
from alps.sam.load import load_segmenter
from alps.sam.mobile import rename_keys
from alps.sam.protocol import Embedding
from alps.sam.segmenter import GPU_PROMPTS, SamSegmenter
from alps.sam.upsample import Axis
from alps.structures import rle
from alps.structures.records import Sample


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter("mobile")


@pytest.fixture(scope="module")
def plot(tmp_path_factory):
    """A 400 px NEON plot: trees on grass."""
    images = SampleImages(root=str(tmp_path_factory.mktemp("sample")))
    return images.read(next(r for r in images.records() if r.image_id == "OSBS_029"))


def test_automatic_masks_equal_segment_anything(segmenter, plot):
    check_automatic_masks(segmenter, plot, layers=0, side=5)  # with crops: tests/matrix


def check_automatic_masks(segmenter, plot, layers, side):
    """Of few points, since the stock code takes its time, nearly all of whose masks are good."""
    options = {
        "points_per_side": side,
        "crop_n_layers": layers,
        "pred_iou_thresh": 0.7,
        "stability_score_thresh": 0.7,
    }
    ours = AutoMasks(segmenter=segmenter, **{**SAM_SETTINGS, **options})(plot)
    stock = SamAutomaticMaskGenerator(
        segmenter.model, points_per_batch=4, output_mode="coco_rle", **options
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


def test_screening_finds_nearly_all_masks(segmenter, plot):
    """In 400 pixels with many small trees: the rest is what coarse masks do not show."""
    every = AutoMasks(segmenter=segmenter, points_per_side=12, **SAM_SETTINGS)(plot)
    screened = AutoMasks(segmenter=segmenter, points_per_side=12, screen=True, **SAM_SETTINGS)(plot)
    iou = rle.iou(every.counts, screened.counts, every.size)
    assert (iou.max(axis=1) > 0.9).mean() > 0.85
    assert iou.max(axis=0).mean() > 0.97


@pytest.mark.parametrize("prompt", [(-1, 5), (401, 5), (5, 400.5), (np.nan, 5)])
def test_a_prompt_outside_the_image_is_named(segmenter, plot, prompt):
    embedding = segmenter.embed(plot.image)
    points = np.array([[5, 5], prompt], np.float32)
    with pytest.raises(PromptError, match=r"outside the image: x y = .*expected within 0..400"):
        segmenter.predict(embedding, points=points)
    with pytest.raises(PromptError, match="outside the image"):
        segmenter.predict(embedding, boxes=np.array([[0, 0, *prompt]], np.float32))


def test_no_prompts_no_masks(segmenter, plot):
    embedding = segmenter.embed(plot.image)
    for prompts in ({"points": np.zeros((0, 2))}, {"boxes": np.zeros((0, 4))}):
        prompts = {name: value.astype(np.float32) for name, value in prompts.items()}
        found = segmenter.predict(embedding, **prompts)
        assert found.logits.shape == (0, 256, 256)
        assert len(found.predicted_iou) == len(found.prompt) == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 300)])
def test_images_smaller_than_a_patch_work(segmenter, plot, size):
    image = np.ascontiguousarray(plot.image[: size[0], : size[1]])
    masks = AutoMasks(segmenter=segmenter, points_per_side=2, **SAM_SETTINGS)(Sample("tiny", image))
    assert masks.size == size
    features = SamFeatures(segmenter=segmenter)(Sample("tiny", image), masks)
    assert features.shape == (len(masks), 256)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_byte(segmenter, plot, threads):
    sample = Sample("x", np.ascontiguousarray(plot.image[:200, :300]))
    options = {"points_per_side": 4, "points_per_batch": 4, **SAM_SETTINGS}
    one = AutoMasks(segmenter=segmenter, **options)(sample)
    many = AutoMasks(segmenter=segmenter, **options, threads=threads)(sample)
    assert one.counts == many.counts
    np.testing.assert_array_equal(one.stability_score, many.stability_score)


def test_fast_masks_are_near(segmenter, plot):
    exact = AutoMasks(segmenter=segmenter, points_per_side=6, **SAM_SETTINGS)(plot)
    fast = AutoMasks(segmenter=segmenter, points_per_side=6, fast=True, **SAM_SETTINGS)(plot)
    assert abs(len(fast) - len(exact)) <= 1
    assert rle.iou(fast.counts, exact.counts, exact.size).max(axis=1).mean() > 0.98


def test_fast_boxes_draw_the_same_masks_near_them(segmenter, plot):
    embedding = segmenter.embed(plot.image)
    boxes = np.array([[60, 50, 110, 90], [250, 150, 340, 260], [5, 5, 390, 390]], np.float32)
    exact = segmenter.predict(embedding, boxes=boxes, multimask_output=False)
    fast = segmenter.predict(embedding, boxes=boxes, multimask_output=False, fast=True)
    torch.testing.assert_close(fast.predicted_iou, exact.predicted_iou)
    for a, b in zip(fast.logits > 0, exact.logits > 0, strict=True):
        assert (a & b).sum() >= 0.999 * (a | b).sum()


def test_points_with_boxes_equal_segment_anything(segmenter, plot):
    predictor = SamPredictor(segmenter.model)
    predictor.set_image(plot.image)
    points = np.array([[100, 100], [300, 200]], np.float32)
    boxes = np.array([[60, 50, 150, 160], [250, 150, 340, 260]], np.float32)
    found = segmenter.predict(
        segmenter.embed(plot.image), points=points, boxes=boxes, multimask_output=False
    )
    for i in range(2):
        _, iou, logits = predictor.predict(
            points[i : i + 1], np.array([1]), boxes[i], multimask_output=False
        )
        torch.testing.assert_close(
            found.logits[i], torch.from_numpy(logits[0]), rtol=1e-3, atol=1e-2
        )
        assert found.predicted_iou[i].item() == pytest.approx(iou[0], abs=1e-4)


def test_the_last_embeddings_are_kept(plot):
    segmenter = SamSegmenter("mobile", keep=2)
    calls = []

    def encode(images):
        calls.extend(image.shape for image in images)
        return [Embedding(torch.zeros(256, 64, 64), im.shape[:2], (1024, 1024)) for im in images]

    segmenter._encode = encode
    a, b, c = plot.image[:100], plot.image[100:200], plot.image[200:300]
    for image in (a, b, a, b, c, b, a):
        segmenter.embed(image)
    assert len(calls) == 4  # a, b, c, and a again after c pushed it out


def test_prefetched_images_are_encoded_in_batches_on_a_gpu(plot):
    segmenter = SamSegmenter("mobile", keep=64)
    segmenter.device = torch.device("meta")  # stands for a GPU: only the CPU takes one at a time
    batches = []

    def encode(images):
        batches.append(len(images))
        return [Embedding(torch.zeros(256, 64, 64), im.shape[:2], (1024, 1024)) for im in images]

    segmenter._encode = encode
    crops = [plot.image[i : i + 50] for i in range(0, 200, 20)]
    segmenter.prefetch([*crops, crops[0]])
    for crop in crops:
        segmenter.embed(crop)
    assert batches == [8, 2]


@pytest.fixture
def crowded(plot):
    """A segmenter on a GPU on which some batches of images do not fit; 16 images."""
    segmenter = SamSegmenter("mobile", keep=64)
    segmenter.device = torch.device("meta")
    segmenter.batches, segmenter.fits = [], lambda n: True

    def encode(images):
        segmenter.batches.append(len(images))
        if not segmenter.fits(len(images)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB. GPU 0 has")
        return [Embedding(torch.zeros(256, 64, 64), im.shape[:2], (1024, 1024)) for im in images]

    segmenter._encode = encode
    return segmenter, [plot.image[i : i + 50] for i in range(0, 320, 20)]


def test_the_batch_of_images_is_halved_once_if_memory_runs_out_once(crowded, caplog):
    segmenter, images = crowded
    segmenter.fits = lambda _: len(segmenter.batches) > 1
    segmenter.prefetch(images)
    assert segmenter.batches == [8, 4, 4, 4, 4]
    assert len(segmenter._embeddings) == 16
    (line,) = caplog.messages
    assert line == "the memory of meta ran out; SAM continues with 4 images per batch"


def test_an_image_that_does_not_fit_is_one_error(crowded):
    segmenter, images = crowded
    segmenter.fits = lambda n: n < 0
    message = (
        r"meta is too small for one image in SAM mobile \(CUDA out of memory\); run fewer proc"
    )
    with pytest.raises(Unavailable, match=message):
        segmenter.prefetch(images[:3])
    assert segmenter.batches == [3, 1]


def test_what_affects_rounding_on_a_gpu_is_in_the_identity():
    cpu, gpu, bfloat16 = (
        SamSegmenter("mobile", device=device, dtype=dtype)
        for device, dtype in (("cpu", "float32"), ("cuda", "float32"), ("cpu", "bfloat16"))
    )
    names = ["sam.architecture", "sam.sha256", "sam.device", "sam.compile"]
    assert [*cpu.identity] == names  # as in stores of earlier versions
    assert [*gpu.identity.items()][2:] == [
        ("sam.device", "cuda"),
        ("sam.compile", False),
        ("sam.points_per_batch", GPU_PROMPTS),
        ("sam.dtype", "float32"),
    ]
    assert bfloat16.identity["sam.dtype"] == "bfloat16"
    with pytest.raises(ConfigError, match="dtype=float16: expected float32 or bfloat16"):
        SamSegmenter("mobile", dtype="float16")


def test_bfloat16_changes_the_embedding_slightly(segmenter, plot):
    exact = segmenter.embed(plot.image).features
    rounded = SamSegmenter("mobile", device="cpu", dtype="bfloat16").embed(plot.image).features
    assert rounded.dtype == torch.float32
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.05


def test_a_worker_chooses_its_own_device_and_loads_its_own_network(segmenter, plot, monkeypatch):
    segmenter.embed(plot.image)
    pickled = pickle.dumps(segmenter)
    assert len(pickled) < 1000
    worker = pickle.loads(pickled)
    assert worker.identity == segmenter.identity
    torch.testing.assert_close(
        worker.embed(plot.image).features, segmenter.embed(plot.image).features, rtol=0, atol=0
    )
    unplanned = pickle.dumps(SamSegmenter("mobile"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pickle.loads(unplanned).device.type == "cuda"
    with pytest.raises(ConfigError, match=r"sam.device=auto: .* recorded cpu; set sam.device=cuda"):
        _ = pickle.loads(pickled).device


def test_images_of_a_batch_are_embedded_as_alone(segmenter, plot):
    images = [plot.image[:300], plot.image[:, :200]]
    with torch.inference_mode():
        together = segmenter._encode(images)
        alone = [segmenter._encode([image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        assert (a.size, a.input_size) == (b.size, b.input_size)
        torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)


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
    with pytest.raises(ConfigError, match="architecture=vit_x: expected mobile, vit_b"):
        build_sam("vit_x")


def test_folding_the_encoder_changes_rounding_only():
    sam = build_sam("mobile")
    load_sam_state(sam, "mobile", load_weights("mobile"))
    x = torch.randn(1, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = sam.image_encoder(x)
        sam.image_encoder.fold()
        after = sam.image_encoder(x)
    assert not any("bn" in name for name, _ in sam.image_encoder.trunk.named_parameters())
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


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


def test_mask_prompts_equal_segment_anything(segmenter, plot):
    """Alone, and beside boxes."""
    embedding = segmenter.embed(plot.image)
    predictor = SamPredictor(segmenter.model)
    predictor.set_image(plot.image, image_format="RGB")
    masks = np.full((2, 256, 256), -8.0, np.float32)
    masks[0, 60:120, 30:90] = masks[1, 150:220, 100:240] = 8.0
    boxes = np.array([[50, 90, 140, 190], [150, 240, 380, 350]], np.float32)
    for given in (None, boxes):
        found = segmenter.predict(embedding, boxes=given, masks=masks, multimask_output=False)
        for i in range(2):
            _, iou, logits = predictor.predict(
                box=None if given is None else given[i],
                mask_input=masks[i : i + 1],
                multimask_output=False,
                return_logits=True,
            )
            scale = np.abs(logits).max()
            ours = found.logits[i].numpy()
            np.testing.assert_allclose(ours / scale, logits[0] / scale, atol=1e-4)
            np.testing.assert_allclose(found.predicted_iou[i], iou[0], atol=1e-4)
    assert found.prompt.tolist() == [0, 1]
    assert found.mask.tolist() == [0, 0]


def test_a_run_begins_without_the_images_of_the_one_before():
    """The trials of a sweep share a process; each has to pay for its own encoder runs."""
    segmenter = load_segmenter("mobile")
    segmenter.load()
    network, image = segmenter.model, np.zeros((32, 48, 3), np.uint8)
    before = segmenter.embed(image)
    assert segmenter.embed(image) is before
    assert load_segmenter("mobile") is segmenter
    assert segmenter.model is network
    assert segmenter.embed(image) is not before
