"""Runs of train.py that are stopped, and go on."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
import torch

from alps.cli.train import newest_checkpoint
from tests.programs import LIGHTNING_WARNINGS, ROOT, finetune

pytestmark = LIGHTNING_WARNINGS


def test_a_run_resumes_in_its_folder_with_its_settings(train, pair, tmp_path):
    base = finetune(pair, "init=null", "trainer.val_check_interval=2", "logger=csv")
    status, _, err = train(*base, "trainer.max_steps=4", "run=here")
    assert status == 0, err
    status, _, err = train(*base, "trainer.max_steps=4", "run=here")
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: here contains a run; continue it with resume=here/last.ckpt, or choose a different "
        "folder with run=DIR",
    )
    resume = (*base, "resume=here/last.ckpt")
    for more, message in (
        (("trainer.max_steps=4",), r"is finished \(step 4\): increase trainer.max_steps"),
        (
            ("trainer.max_steps=6", "optim.lr=1e-2"),
            "optim.lr was 0.0001, is 0.01; restore them, or start",
        ),
        (("trainer.max_steps=6", "data.batch_size=3"), "data.batch_size was 2, is 3"),
        (("trainer.max_steps=6", "run=there"), "run=there: a resumed run writes to the folder"),
    ):
        status, _, err = train(*resume, *more)
        assert status == 1
        assert re.search(message, err.splitlines()[-1]), err
    status, out, err = train(*resume, "trainer.max_steps=6")
    assert status == 0, err
    assert re.findall(r"step (\d)/6", out) == ["6"]
    assert torch.load(tmp_path / "here/last.ckpt", weights_only=True)["global_step"] == 6
    assert (tmp_path / "here/csv/version_1/metrics.csv").exists()  # the first curve is kept
    assert not (tmp_path / "runs").exists()


@contextmanager
def started(*words, cwd):
    """train.py in a process and a group of its own, which end with the block.

    If the test fails meanwhile, each process prints where it is: a hang is hard to repeat.
    """
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )
    try:
        yield process
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired, ValueError):  # ValueError: its pipes are closed
            print(*process.communicate(timeout=10), sep="\n")  # noqa: T201 - pytest shows it
        raise
    finally:
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_stopped_run_says_how_to_go_on(pair, tmp_path):
    check_stopped_program(pair, tmp_path, signal.SIGINT, 130)  # the other signal: tests/matrix


def check_stopped_program(pair, tmp_path, number, status):
    options = finetune(pair, "init=null", "trainer.max_steps=2000", "run=x", "logger=none")
    words = ("trainer.val_check_interval=1000", *options)
    with started(*words, cwd=tmp_path) as process:
        while not (tmp_path / "x/config.yaml").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    found = re.search(r"stopped after step (\d+); .* resume=x/last.ckpt to continue", err)
    assert found, err
    last = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    assert last["global_step"] == int(found[1])


@pytest.mark.two_processes
def test_two_processes_are_stopped_as_a_group(pair, tmp_path):
    """As a terminal or a job does it: the loaders' processes get the signal, too."""
    options = finetune(pair, "init=null", "trainer.max_steps=2000", "logger=none")
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.num_workers=1")
    with started(*options, *ddp, "trainer.val_check_interval=2", cwd=tmp_path) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("step 2/"):
                break
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (found,) = re.findall(r"stopped after step (\d+); .* resume=(\S+) to continue", err)
    last = torch.load(tmp_path / found[1], weights_only=True)
    assert last["global_step"] == int(found[0]) >= 2
    assert "Traceback" not in err
    assert ("".join(lines) + out + err).count("has 4 classes") == 1


def curve(folder):
    """All that the runs in a folder have logged, by step, without how fast they were."""
    points = {}
    for path in sorted(folder.glob("csv/*/metrics.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                told = {k: v for k, v in row.items() if v and k != "train/images_per_second"}
                points.setdefault(int(row["step"]), {}).update(told)
    return points


@pytest.mark.parametrize("max_steps", [2, 4])
def test_a_validation_that_met_a_broken_image_is_made_up_for(train, pair, tmp_path, max_steps):
    steps = (f"trainer.max_steps={max_steps}", "trainer.val_check_interval=2")
    words = finetune(pair, "init=null", *steps)
    status, whole, err = train(*words, "run=whole")
    assert status == 0, err
    image = next((pair / "img_dir/val").iterdir())
    content = image.read_bytes()
    image.write_bytes(b"no image")
    status, _, err = train(*words, "run=broken")
    assert (status, image.name in err.splitlines()[-1]) == (1, True), err
    image.write_bytes(content)
    status, out, err = train(*words, "resume=broken/last.ckpt")
    assert status == 0, err
    assert re.findall(r"step (\d)/", out) == [str(n) for n in range(2, max_steps + 1, 2)]
    assert out.splitlines()[-1] == whole.splitlines()[-1]
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")
    status, _, err = train(*words, "resume=broken/last.ckpt")
    assert (status, f"is finished (step {max_steps})" in err) == (1, True)


def test_a_requeued_job_goes_on_where_it_was(train, pair, tmp_path, monkeypatch):
    """SLURM runs the same words again, in the folder of the job."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin/scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    slurm = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.strategy=auto")
    steps = ("trainer.max_steps=8", "trainer.val_check_interval=2")
    words = [word for word in finetune(pair, "init=null", *steps) if word != "trainer=cpu"]
    status, whole, err = train(*words, "trainer=cpu", "run=whole")
    assert status == 0, err
    words += ["trainer=slurm", *slurm]
    folder = tmp_path / "runs/finetune/77"

    def stop(step, number):
        target = "+callbacks.stop._target_=tests.training.stopping.test_interrupt.Stop"
        return (target, f"+callbacks.stop.step={step}", f"+callbacks.stop.what={int(number)}")

    status, _, err = train(*words, *stop(3, signal.SIGUSR1))  # SLURM's warning, which requeues
    assert (status, "stopped after step 3" in err) == (128 + signal.SIGUSR1, True), err
    assert (tmp_path / "told").read_text() == "requeue 77\n"
    assert (folder / "hpc_ckpt_1.ckpt").exists()
    status, out, err = train(*words, *stop(5, signal.SIGTERM))
    assert (status, re.findall(r"step (\d)/8", out)) == (143, ["4"]), err
    (folder / "hpc_ckpt_1.ckpt").unlink()
    status, out, err = train(*words)
    assert (status, re.findall(r"step (\d)/8", out)) == (0, ["6", "8"]), err
    assert out.splitlines()[-1] == whole.splitlines()[-1]
    assert curve(folder) == curve(tmp_path / "whole")
    assert [p.name for p in folder.parent.iterdir()] == ["77"]


SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "alps",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}


def test_of_a_job_the_newest_checkpoint_counts(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for age, name in enumerate(["hpc_ckpt_2.ckpt", "last.ckpt", "hpc_ckpt_1.ckpt", "best.ckpt"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (10 - age, 10 - age))
    assert newest_checkpoint(tmp_path) == str(tmp_path / "hpc_ckpt_2.ckpt")
    os.utime(tmp_path / "last.ckpt", (20, 20))
    assert newest_checkpoint(tmp_path) == str(tmp_path / "last.ckpt")
