import pytest

from alps.assign.limits import check_ks
from alps.errors import ConfigError

CLUSTER = "alps.assign.Cluster"


@pytest.mark.parametrize(
    ("assigner", "ks", "clusters", "message"),
    [
        ("alps.assign.Random", [2, 3], {"k": 4}, "alps.assign.Random does not cluster; use as"),
        (
            CLUSTER,
            8,
            {},
            r"choose_k=8: expected null or a list of integers >= 2, such as \[8,16",
        ),
        (CLUSTER, [], {}, r"choose_k=\[\]: expected null or a list of integers"),
        (CLUSTER, [1, 8], {}, r"choose_k=\[1, 8\]: expected null or a list of integers >= 2"),
        (CLUSTER, [4.5], {}, r"choose_k=\[4.5\]: expected"),
        (CLUSTER, [4, 9], {"k": 8, "merge": 4}, "requests 9 classes, but assign.k=8 gives"),
    ],
)
def test_numbers_of_classes_that_cannot_be_compared(assigner, ks, clusters, message):
    with pytest.raises(ConfigError, match=message):
        check_ks(assigner, ks, **clusters)


def test_numbers_of_classes_that_can_be_compared():
    check_ks(CLUSTER, [2, 1000], k=46)
    check_ks(CLUSTER, [8, 2], k=8, merge=4)
