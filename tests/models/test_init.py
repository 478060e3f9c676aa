from argparse import Namespace

import pytest
import timm
import torch

from alps.errors import CheckpointError, ConfigError
from alps.models.heads.fpn import FPN
from alps.models.init import load_init
from alps.pretrained import encoder as encoders
from tests.models.nets import build, copy, save


def changed(model, before):
    """The parts of which any tensor has changed."""
    after = model.state_dict()
    return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}


def assert_equal(model, state, prefix=""):
    for name, value in model.state_dict().items():
        if name.startswith(prefix):
            torch.testing.assert_close(value, state[name], msg=name)


# --- several datasets ---------------------------------------------------------------------------


def test_a_net_of_several_datasets_starts_a_net_of_one_and_back(tmp_path):
    for before, after in (({"a": 4, "b": 6}, 5), (5, {"a": 4, "b": 6})):
        path = save(tmp_path, {"state_dict": copy(build(num_classes=before, aux=True))})
        model = build(num_classes=after, aux=True)
        with pytest.raises(
            CheckpointError, match=r"classifier has 0 of .*init_skip=\[classifier\]"
        ):
            load_init(model, path)
        new = copy(model)
        report = load_init(model, path, skip=["classifier", "aux_classifier"])
        assert changed(model, new) == {"encoder", "head", "aux_head", "mean", "std"}
        assert (report.missing, report.unused, report.mismatched) == ((), (), ())


# --- files of ours ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "model.", "model._orig_mod.", "module.model.", "compiled"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_checkpoint_of_ours(tmp_path, prefix, wrapped):
    """A Lightning checkpoint of the task, compiled or not, or a state dict alone."""
    source, model = build(aux=True), build(aux=True)
    state = source.state_dict()
    if prefix == "compiled":  # a part of the net
        state = {k.replace("encoder.", "encoder._orig_mod."): v for k, v in state.items()}
    else:
        state = {prefix + k: v for k, v in state.items()}
    lightning = {"epoch": 3, "state_dict": state, "optimizer_states": [{}], "config": "seed: 0"}
    report = load_init(model, save(tmp_path, lightning if wrapped else state))
    assert_equal(model, source.state_dict())
    assert all(loaded == total for loaded, total in report.parts.values())
    assert list(report.parts) == ["encoder", "head", "classifier", "aux_head", "aux_classifier"]
    assert report.missing == report.unused == report.mismatched == ()
    assert str(report) == (
        f"init from {tmp_path / 'a.pt'}: encoder 75 of 75 tensors, head 30 of 30 tensors, "
        "classifier 2 of 2 tensors, aux_head 5 of 5 tensors, aux_classifier 2 of 2 tensors"
    )


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net"])
def test_what_other_programs_call_the_weights(tmp_path, key):
    """Beside an optimiser's, and arguments; a dict of that name without tensors is not meant."""
    source, model = build(), build()
    content = {"state_dict": {"epoch": 1}, "optimizer": {"state": {}}, "args": Namespace(lr=1)}
    report = load_init(model, save(tmp_path, {**content, key: source.state_dict()}))
    assert_equal(model, source.state_dict())
    assert all(loaded == total for loaded, total in report.parts.values())


def test_safetensors(tmp_path):
    source, model = build(), build()
    state = {name: value.contiguous() for name, value in source.state_dict().items()}
    load_init(model, save(tmp_path, state, "a.safetensors"))
    assert_equal(model, source.state_dict())


def test_none_changes_nothing():
    model = build()
    before = copy(model)
    report = load_init(model, None)
    assert changed(model, before) == set()
    assert str(report) == "init from random weights: encoder new, head new, classifier new"


def test_a_part_the_file_does_not_hold_stays_new(tmp_path):
    model = build(aux=True)
    before = copy(model)
    report = load_init(model, save(tmp_path, build(aux=False).state_dict()))
    assert changed(model, before) == {"encoder", "head", "classifier", "mean", "std"}
    assert report.parts["aux_head"] == (0, 5)
    assert {name.split(".")[0] for name in report.missing} == {"aux_head", "aux_classifier"}
    assert str(report).endswith("aux_head new, aux_classifier new")


def test_a_part_the_net_does_not_have_is_unused(tmp_path):
    report = load_init(build(), save(tmp_path, build(aux=True).state_dict()))
    assert len(report.unused) == 7
    assert "\n  7 tensors of the file are not in the model: aux_head.conv.conv.weight, " in str(
        report
    )


# --- other classes, other nets ------------------------------------------------------------------


def test_other_classes_are_refused_and_skipped(tmp_path):
    path = save(tmp_path, build(num_classes=46, aux=True).state_dict())
    model = build(num_classes=6, aux=True)
    before = copy(model)
    with pytest.raises(CheckpointError) as error:
        load_init(model, path)
    assert str(error.value) == (
        f"classifier has 46 classes in {path}, but 6 in this model; set "
        "init_skip=[classifier,aux_classifier] to initialise the last layer at random"
    )
    assert changed(model, before) == set()
    report = load_init(model, path, skip=["classifier", "aux_classifier"])
    assert changed(model, before) == {"encoder", "head", "aux_head", "mean", "std"}
    assert list(report.parts) == ["encoder", "head", "aux_head"]
    assert report.missing == report.unused == report.mismatched == ()


def test_what_fits_is_taken_when_not_strict(tmp_path):
    model = build(num_classes=6)
    before = copy(model)
    report = load_init(model, save(tmp_path, build(num_classes=46).state_dict()), strict=False)
    assert changed(model, before) == {"encoder", "head", "mean", "std"}
    assert [(m.name, m.in_file, m.in_model) for m in report.mismatched] == [
        ("classifier.weight", (46, 8, 1, 1), (6, 8, 1, 1)),
        ("classifier.bias", (46,), (6,)),
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"name": "convnext_atto"},
            "encoder has 0 of 100 tensors in common; it has no "
            r"encoder\.trunk\.conv1\.weight, but encoder\.trunk\.stem\.0\.weight; set model= and",
        ),
        (
            {"name": "resnet34"},  # in which the smaller one lies by names and shapes
            r"encoder has 100 of 100 tensors in common; encoder\.trunk\.layer1\.2\.conv1\.weight "
            "is not in this model; set",
        ),
        (
            {"name": "resnet50"},
            r"encoder has \d+ of 100 tensors in common; encoder\.trunk\.layer1\.0"
            r"\.conv1\.weight has shape \(64, 64, 1, 1\), expected \(64, 64, 3, 3\)",
        ),
        (
            {"head": FPN},
            r"head has 0 of 30 tensors in common; it has no head\.blocks\.0\.0\.conv\.weight, "
            r"but head\.pyramid.*init_skip=\[head\]",
        ),
    ],
)
def test_a_checkpoint_of_a_different_model_is_refused(tmp_path, other, message):
    path = save(tmp_path, build(**{"name": "resnet18"} | other).state_dict())
    model = build("resnet18")
    before = copy(model)
    with pytest.raises(CheckpointError, match=message) as error:
        load_init(model, path)
    assert str(error.value).startswith(f"{path} is a checkpoint of a different model: ")
    assert "\n" not in str(error.value)
    assert changed(model, before) == set()


def test_a_file_that_has_nothing_is_refused_even_when_not_strict(tmp_path):
    path = save(tmp_path, {"layers.0.weight": torch.ones(3)})
    with pytest.raises(CheckpointError, match=r"encoder has 0 of .* tensors in common"):
        load_init(build(), path, strict=False)


def test_a_file_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="contains no weights, but epoch, config; expected"):
        load_init(build(), save(tmp_path, {"epoch": 1, "config": "x"}))
    with pytest.raises(CheckpointError, match=r"no such file; expected null, imagenet or a FILE"):
        load_init(build(), str(tmp_path / "absent.pt"))


def test_an_unknown_part_is_refused():
    with pytest.raises(
        ConfigError, match=r"\['decoder'\] is not a list of parts .*\[encoder, head,"
    ):
        load_init(build(), None, skip=["decoder"])
    with pytest.raises(ConfigError, match=r"init_skip=\['classifier'\] is not a list"):
        load_init(build(), None, skip="classifier")


@pytest.mark.parametrize("part", ["encoder", "head", "classifier"])
def test_a_skipped_part_stays_as_it_is(tmp_path, part):
    model = build()
    before = copy(model)
    load_init(model, save(tmp_path, build().state_dict()), skip=[part])
    kept = {"encoder", "mean", "std"} if part == "encoder" else {part}
    assert changed(model, before) == {"encoder", "head", "classifier", "mean", "std"} - kept


def test_all_parts_skipped(tmp_path):
    model = build()
    before = copy(model)
    path = save(tmp_path, build().state_dict())
    report = load_init(model, path, skip=["encoder", "head", "classifier"])
    assert changed(model, before) == set()
    assert str(report) == f"init from {path}: all skipped"


# --- files of the encoder alone -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *(("test_resnet", prefix) for prefix in ("", "module.", "model.", "backbone.", "encoder.")),
        ("resnet18", ""),
        ("tf_efficientnet_lite0", ""),
        ("convnext_atto", ""),
        ("convnext_atto", "features_only"),
        ("swin_tiny_patch4_window7_224", ""),
    ],
)
def test_a_classification_net_of_timm(tmp_path, name, prefix):
    if prefix == "features_only":
        net = timm.create_model(name, features_only=True)
    else:
        net = timm.create_model(name, num_classes=7)
    state = {prefix.removeprefix("features_only") + k: v for k, v in net.state_dict().items()}
    if prefix == "backbone.":
        state["head.fc.weight"] = torch.ones(2)
    model = build(name)
    before = copy(model)
    report = load_init(model, save(tmp_path, state))
    trunk = model.encoder.trunk.state_dict()
    for value, expected in zip(trunk.values(), list(net.state_dict().values()), strict=False):
        assert value.shape == expected.shape
        torch.testing.assert_close(value, expected)
    assert changed(model, before) == {"encoder"}
    n = len([name for name in trunk if not name.endswith("batches_tracked")])
    assert report.parts["encoder"] == (n, n)
    assert report.parts["head"][0] == 0


def test_a_vit_of_timm_leaves_the_pyramid_new(tmp_path):
    model = build("vit_tiny_patch16_224")
    path = save(tmp_path, timm.create_model("vit_tiny_patch16_224").state_dict())
    report = load_init(model, path)
    loaded, total = report.parts["encoder"]
    assert all(n.startswith("encoder.pyramid") for n in report.missing if n.startswith("encoder"))
    assert total - loaded == len(model.encoder.pyramid.state_dict())


def test_counters_of_batches_may_be_absent(tmp_path):
    state = build().state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    model = build()
    report = load_init(model, save(tmp_path, state))
    assert report.missing == ()
    torch.testing.assert_close(model.head.blocks[0][0].bn.bias, state["head.blocks.0.0.bn.bias"])


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_channels_than_the_files(tmp_path, ours, in_channels):
    source = build("resnet18") if ours else timm.create_model("resnet18")
    weight = (source.encoder.trunk if ours else source).conv1.weight
    model = build("resnet18", in_channels=in_channels)
    load_init(model, save(tmp_path, source.state_dict()))
    adapted = model.encoder.trunk.conv1.weight
    if in_channels == 1:
        torch.testing.assert_close(adapted, weight.sum(dim=1, keepdim=True))
    else:
        torch.testing.assert_close(adapted, weight[:, [0, 1, 2, 0]] * 3 / 4)


# --- bands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", ["ABC", "ABCDE"])
def test_statistics_of_bands_are_not_those_of_rgb(tmp_path, bands):
    model = build(band_names=bands)
    before = copy(model)
    report = load_init(model, save(tmp_path, build().state_dict()))
    assert changed(model, before) == {"encoder", "head", "classifier"}
    assert report.missing == ("mean", "std")
    assert ("adapted to the bands" in str(report)) == (len(bands) != 3)


def test_the_same_bands_keep_their_statistics(tmp_path):
    source, model = build(band_names="ABCDE"), build(band_names="ABCDE")
    content = {"state_dict": source.state_dict(), "alps": {"bands": [*"ABCDE"]}}
    load_init(model, save(tmp_path, content))
    assert_equal(model, source.state_dict())
    assert model.statistics == source.statistics


@pytest.mark.parametrize("bands", [None, "BACDE"])
def test_other_bands_are_refused(tmp_path, bands):
    content = {"state_dict": build(band_names="ABCDE").state_dict(), "alps": {"bands": [*"ABCDE"]}}
    path, model = save(tmp_path, content), build(band_names=bands)
    actual = "RGB" if bands is None else "the bands B, A, C, D, E"
    message = rf"trained on the bands A, B, C, D, E, but this model has {actual}; set dataset.bands"
    with pytest.raises(CheckpointError, match=message):
        load_init(model, path)
    before = copy(model)
    load_init(model, path, skip=["encoder"])
    assert changed(model, before) == {"head", "classifier"}


# --- ImageNet -----------------------------------------------------------------------------------


def test_imagenet(monkeypatch):
    net = timm.create_model("tf_efficientnet_lite0")
    monkeypatch.setattr(encoders, "load_weights", lambda name: net.state_dict())
    model = build("tf_efficientnet_lite0")
    before = copy(model)
    report = load_init(model, "imagenet")
    assert changed(model, before) == {"encoder"}
    torch.testing.assert_close(model.encoder.trunk.conv_stem.weight, net.conv_stem.weight)
    assert str(report).startswith("init from imagenet: encoder 240 of 240 tensors, head new")
    before = copy(model)
    load_init(model, "imagenet", skip=["encoder"])
    assert changed(model, before) == set()
