"""The table of the trials of a sweep."""

import csv

from alps.evaluation.study import add_trial, print_trials, tabulate_trials
from tests.box_formats import create_coco

COMMON = ("recipe=samrs", "evaluate=true")


def test_the_table_shows_the_overrides_that_differ(tmp_path, capsys):
    add_trial(tmp_path, 1, (*COMMON, "masks.prompt=center"), {"objects": 3, "mean IoU": 0.5}, 2.0)
    add_trial(tmp_path, 0, (*COMMON, "masks.prompt=hbox"), {"objects": 3, "mean IoU": 0.75}, 1.5)
    head = ["masks.prompt", "objects", "mean IoU", "s/image"]
    rows = [head, ["hbox", "3", "0.750", "1.500"], ["center", "3", "0.500", "2.000"]]
    assert tabulate_trials(tmp_path) == rows
    text = (tmp_path / "study.csv").read_text()
    assert text == "".join(",".join(row) + "\n" for row in rows)
    print_trials(tmp_path)
    assert "2 trials" in (shown := capsys.readouterr().out)
    assert "study.csv" in shown


def test_a_repeated_trial_replaces_its_row(tmp_path):
    add_trial(tmp_path, 0, COMMON, {"mean IoU": 0.5}, 2.0)
    add_trial(tmp_path, 0, COMMON, {"mean IoU": 0.6}, 1.0)
    assert tabulate_trials(tmp_path) == [["mean IoU", "s/image"], ["0.600", "1.000"]]


def test_a_failed_trial_has_a_row_with_its_error(tmp_path, capsys):
    add_trial(tmp_path, 0, (*COMMON, "masks.prompt=no"), {}, None, "masks.prompt=no: choose [hbox]")
    add_trial(tmp_path, 1, (*COMMON, "masks.prompt=hbox"), {"AP": 0.75, "AP50": None}, 1.5)
    add_trial(tmp_path, 2, (*COMMON, "~masks.best"), {"AP": 0.5, "AP50": 1.0}, 2.5)
    assert tabulate_trials(tmp_path) == [
        ["masks.prompt", "~masks.best", "AP", "AP50", "s/image", "error"],
        ["no", "", "", "", "", "masks.prompt=no: choose [hbox]"],
        ["hbox", "", "0.750", "", "1.500", ""],
        ["", "", "0.500", "1.000", "2.500", ""],
    ]
    print_trials(tmp_path)
    shown = capsys.readouterr().out
    assert "row 1 failed: masks.prompt=no: choose [hbox]\n" in shown
    assert "error" not in shown


def test_a_trial_with_existing_masks_keeps_its_seconds(tmp_path):
    add_trial(tmp_path, 0, COMMON, {"AP": 0.5}, 2.0)
    add_trial(tmp_path, 0, COMMON, {"AP": 0.6}, None)
    add_trial(tmp_path, 1, COMMON, {"AP": 0.7}, None)
    assert tabulate_trials(tmp_path)[1:] == [["0.600", "2.000"], ["0.700", ""]]


def test_trials_of_earlier_versions_are_read(tmp_path):
    add_trial(tmp_path, 0, (*COMMON, "masks.prompt=hbox"), {"AP": 0.5}, 2.0)
    path = tmp_path / "trials/000.json"
    path.write_text(path.read_text().replace('"overrides"', '"words"'))
    add_trial(tmp_path, 1, (*COMMON, "masks.prompt=center"), {"AP": 0.6}, 1.0)
    assert tabulate_trials(tmp_path)[1:] == [
        ["hbox", "0.500", "2.000"],
        ["center", "0.600", "1.000"],
    ]


def test_the_table_of_a_study_fits_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = ("objects", "IoU", "IoU small", "IoU medium", "IoU large", "AP", "AP50", "AP75")
    for i, prompt in enumerate(("hbox", "hbox+center", "rhbox_mask")):
        scores = dict.fromkeys(names, 0.123) | {"objects": 123456}
        add_trial(tmp_path, i, (*COMMON, f"masks.prompt={prompt}"), scores, 12.345)
    capsys.readouterr()
    print_trials(tmp_path)
    shown = capsys.readouterr().out
    names = " ".join(names).split()  # a head may be broken at its spaces
    for word in (*names, "hbox", "rhbox", "123456", "0.123", "12.345", "s/image"):
        assert word in shown  # no number is cut
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown


def test_a_sweep_with_real_weights_reports_a_failed_trial(tmp_path, label):
    """The others are done and compared, and the failure is the exit status."""
    create_coco(tmp_path / "coco", n=1)
    done = label(
        *("-m", "recipe=samrs", "+dataset=coco", "dataset.root=coco", "evaluate=true"),
        *("masks.prompt=hbox,nosuch,center", "hydra.sweep.dir=sweep", "engine.threads=1"),
    )
    assert done.returncode == 1
    why = "masks.prompt=nosuch: expected hbox, "
    assert f"trial 1 failed: {why}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {why}")
    with (tmp_path / "sweep/study.csv").open(newline="") as file:
        hbox, nosuch, center = csv.DictReader(file)
    assert [row["masks.prompt"] for row in (hbox, nosuch, center)] == ["hbox", "nosuch", "center"]
    assert nosuch["error"].startswith(why)
    assert not nosuch["IoU"]
    assert float(hbox["IoU"]) > 0.5
    assert all(float(row["s/image"]) > 0 and not row["error"] for row in (hbox, center))
    assert "3 trials" in done.stdout
    for number in (0, 2):
        assert (tmp_path / f"sweep/{number}/coco_seg/evaluation.html").exists()
    assert (tmp_path / "sweep/2/coco_seg/report.html").read_text().count('href="evaluation.html"')
