"""The tables of settings, the classes they describe, and the defaults of both in conf/."""

import inspect
import subprocess
import sys

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from alps.cli.limits import LIMITS, check_node
from alps.datasets.limits import DATA
from alps.errors import ConfigError
from alps.features.limits import STRIDES
from alps.pretrained.encoder import Encoder
from alps.training.data import SegmentationData
from tests.programs import ROOT

SLOW = {"torch", "timm", "faiss", "numpy", "pyarrow", "cv2", "lightning"}
#: The configuration that holds the defaults of its class.
DEFAULTS = (
    *("masks/auto", "masks/box", "masks/stored"),
    *("features/sam", "features/shape", "features/sscd", "features/timm"),
    *("assign/cluster", "assign/random", "sam/mobile", "engine/local", "engine/ray"),
    *("optim/adamw", "loss/cross_entropy", "window/default", "data/default"),
)


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_of_parameters(name):
    assert LIMITS[name].keys() <= inspect.signature(get_object(name)).parameters.keys()


def test_limits_of_data_are_of_parameters():
    parameters = inspect.signature(SegmentationData).parameters.keys()
    assert parameters - DATA.keys() == {"images", "seed"}


def test_limits_agree_with_the_encoder():
    assert Encoder.strides == STRIDES
    assert DATA["crop"].multiple_of == Encoder.divisor
    assert LIMITS["alps.features.TimmFeatures"]["box_size"].multiple_of == Encoder.divisor


@pytest.mark.parametrize("name", DEFAULTS)
def test_classes_have_the_defaults_of_their_configuration(name):
    node = OmegaConf.load(ROOT / f"conf/{name}.yaml")
    parameters = inspect.signature(
        get_object(node._target_) if "_target_" in node else SegmentationData
    ).parameters
    written = OmegaConf.to_container(node, resolve=False)
    values = {k: v for k, v in written.items() if not str(v).startswith("${")}
    defaults = {
        key: [*default] if isinstance(default, tuple) else default
        for key, default in ((k, parameters[k].default) for k in values if k in parameters)
        if default is not inspect.Parameter.empty
    }
    assert defaults == {key: values[key] for key in defaults}


@pytest.mark.parametrize("program", ["label", "train"])
def test_the_checks_import_no_slow_library(program):
    code = f"import sys, alps.cli.{program}; print(sorted({SLOW} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_settings_that_are_missing_or_filled_in_are_not_checked():
    limits = LIMITS["alps.prediction.SlidingWindow"]
    node = OmegaConf.create({"crop": None, "overlap": "???"})
    check_node(limits, "window", node, filled_in=("window.crop",))
    with pytest.raises(
        ConfigError, match=r"^window\.crop=null: expected an integer number of pixels >= 1"
    ):
        check_node(limits, "window", node)
