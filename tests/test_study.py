from alps.study import add_trial, print_trials, tabulate_trials

COMMON = ("recipe=samrs", "evaluate=true")


def test_trials_side_by_side_by_what_differs(tmp_path, capsys):
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


def test_a_trial_that_is_done_again_replaces_itself(tmp_path):
    add_trial(tmp_path, 0, COMMON, {"mean IoU": 0.5}, 2.0)
    add_trial(tmp_path, 0, COMMON, {"mean IoU": 0.6}, 1.0)
    assert tabulate_trials(tmp_path) == [["mean IoU", "s/image"], ["0.600", "1.000"]]
