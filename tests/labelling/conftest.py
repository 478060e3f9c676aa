"""A finished store of small images."""

import pytest

from tests.labelling.small_runs import images, run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference") / "store"
    run(root, images())
    return root
