import pytest

from alps.errors import ConfigError
from alps.structures.findings import (
    MAX_LOGGED,
    Finding,
    findings_to_json,
    json_to_findings,
    report_findings,
)

FINDINGS = [
    Finding(f"kind_{i}", i, f"{i} of 9 images are été {i}", f"mend them by {i}") for i in range(7)
]


def test_the_most_important_findings_are_logged_and_the_others_counted(caplog):
    report_findings(FINDINGS, name="coco")
    assert len(caplog.messages) == MAX_LOGGED + 1
    assert caplog.messages[0] == "coco: 0 of 9 images are été 0; mend them by 0"
    assert caplog.messages[-1] == "coco: 2 more findings are in findings.json"


def test_few_findings_are_all_logged(caplog):
    report_findings(FINDINGS[:MAX_LOGGED], name="coco")
    assert len(caplog.messages) == MAX_LOGGED
    caplog.clear()
    report_findings([], name="coco", strict=True)
    assert not caplog.messages


def test_strict_makes_them_one_error_that_lists_all(caplog):
    with pytest.raises(ConfigError, match=r"^strict=true, and coco has 7 findings: ") as caught:
        report_findings(FINDINGS, name="coco", strict=True)
    assert all(str(finding) in str(caught.value) for finding in FINDINGS)
    assert "\n" not in str(caught.value)
    assert not caplog.messages
    with pytest.raises(ConfigError, match=r"^strict=true, and coco has 1 finding: 0 of 9"):
        report_findings(FINDINGS[:1], name="coco", strict=True)


def test_findings_are_the_same_after_a_round_trip():
    text = findings_to_json(FINDINGS)
    assert json_to_findings(text) == FINDINGS
    assert findings_to_json(json_to_findings(text)) == text


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", '[{"kind": "a"}]', "7", "["])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        json_to_findings(text)
