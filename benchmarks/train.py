"""Measure training: the task against a bare loop, networks against smp, the loader, precision.

python -m benchmarks.train
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float64, UInt8
from lightning.pytorch import Callback, seed_everything
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from alps.cli.build import build_model, build_trainer
from alps.images.files.read import read_image
from alps.images.pixels.folder_pair import FolderPair
from alps.training.data import SegmentationData
from alps.training.runs import EXPECTED_WARNINGS
from alps.training.subject import Subject
from alps.training.task import SegmentationTask
from benchmarks.measure import (
    Spread,
    arguments,
    console,
    interleave,
    load_images,
    one_thread,
    show,
)
from benchmarks.nets import NETS, NUM_CLASSES, against_smp, by_size, configuration, loop

SMALL = next(iter(NETS.values()))
#: A net for showing on a CPU that the comparison runs; generating its code would take minutes.
TINY = (
    *("model=timm", "model.encoder=test_resnet"),
    *("head=fpn", "head.channels=32", "head.pyramid_channels=32"),
)
Seconds = Float64[np.ndarray, "2"]  # wall, CPU
Steps = Float64[np.ndarray, "n 2"]


class Alternate(Callback):
    """Run a step of the bare loop after each of Lightning's, and measure both."""

    def __init__(self, bare: Iterator[Tensor]) -> None:
        self.bare = bare
        self.times: list[tuple[Seconds, Seconds]] = []  # after a step of ours, after a bare one
        self.loss = torch.tensor(torch.nan)

    def on_train_batch_end(self, *_: Any) -> None:
        """Count the time from here to Lightning's next batch for ALPS."""
        start = now()
        self.loss = next(self.bare)
        self.times.append((start, now()))

    def seconds(self) -> tuple[Steps, Steps]:
        """Return (wall, CPU) of all steps except the first, of ALPS and of the bare loop."""
        before, after = (np.array(times) for times in zip(*self.times, strict=True))
        return before[1:] - after[:-1], (after - before)[1:]


class Clock(Callback):
    """Measure ``steps`` steps after the first ``skip``, on a GPU without waiting in between."""

    def __init__(self, steps: int, skip: int, *, on_gpu: bool) -> None:
        self.steps, self.skip, self.step = steps, skip, 0
        self.wall = 0.0
        self.profile = profile(activities=[ProfilerActivity.CUDA]) if on_gpu else None

    def on_train_batch_end(self, *_: Any) -> None:
        """Start and stop the clock."""
        self.step += 1
        if self.step not in (self.skip, self.skip + self.steps):
            return
        if self.profile:
            torch.cuda.synchronize()
            if self.step == self.skip:
                self.profile.start()  # may take seconds
        self.wall = time.perf_counter() - self.wall
        if self.profile and self.step > self.skip:
            self.profile.stop()

    @property
    def busy(self) -> str:
        """Return the share of the wall time in which the GPU was busy, in per cent."""
        if not self.profile:
            return ""
        spent = sum(event.self_device_time_total for event in self.profile.key_averages())
        return f"{100 * float(spent) / 1e6 / self.wall:.0f}"


def now() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


def build(cfg: DictConfig, images: FolderPair) -> tuple[SegmentationTask, SegmentationData]:
    """Build the task as train.py does; two calls give equal weights."""
    seed_everything(cfg.seed, verbose=False)
    data = SegmentationData(images, **cfg.data, seed=cfg.seed)
    model = build_model(cfg, NUM_CLASSES)
    if cfg.compile:
        model.compile(backend="inductor" if torch.cuda.is_available() else "aot_eager")
    task = SegmentationTask(
        model=model,
        subjects=[Subject.of(images, loss=instantiate(cfg.loss, ignore_index=images.ignore_index))],
        window=instantiate(cfg.window, crop=data.crop),
        optim=instantiate(cfg.optim),
    )
    return task, data


def ours(cfg: DictConfig, images: FolderPair, callback: Callback) -> float:
    """Train under Lightning's Trainer and return the last loss."""
    task, data = build(cfg, images)
    trainer = build_trainer(cfg, interval=cfg.trainer.max_steps)
    trainer.callbacks.append(callback)
    trainer.fit(task, datamodule=data)
    task.recent_losses.read(trainer.strategy)
    return task.recent_losses.last


def bare(cfg: DictConfig, images: FolderPair) -> Iterator[Tensor]:
    """Train the same network, loader, loss, optimiser and schedule in a plain loop."""
    task, data = build(cfg, images)
    data.trainer = build_trainer(cfg)  # the loader asks it how many steps there are
    device = data.trainer.strategy.root_device
    model = task.model.to(device).train()
    assert task.optim is not None
    return loop(
        lambda image: model(image).logits,
        data.train_dataloader(),
        task.losses[0],
        *task.optim.build(model, cfg.trainer.max_steps),
        device=device,
        bf16=data.trainer.precision == "bf16-mixed",
    )


def against_bare(images: FolderPair, crop: int, batch: int, steps: int) -> None:
    """Alternate the two step by step, as other load varies; both must learn the same."""
    sizes = (f"data.crop={crop}", f"data.batch_size={batch}", f"trainer.max_steps={steps + 1}")
    cfg = configuration(*SMALL, "trainer=cpu", "head.dropout=0", *sizes)
    turns = Alternate(bare(cfg, images))
    loss = ours(cfg, images, turns)
    if loss != float(turns.loss):
        raise RuntimeError(f"the losses differ: {loss}, {float(turns.loss)}")
    mine, theirs = (seconds.T for seconds in turns.seconds())  # (wall, CPU), steps
    rows = [
        [
            name,
            Spread.of(batch / spent[0]),
            Spread.of(1000 * spent[1]),
            *(quartiles(*pair) for pair in zip(theirs, spent, strict=True)),
        ]
        for name, spent in (("bare loop", theirs), ("our task", mine))
    ]
    columns = ["", "images/s", "CPU ms a step", "x speed, wall", "x speed, CPU"]
    show(f"crop {crop}, batch {batch}: {steps} steps of each", columns, rows)


def quartiles(peer: Float64[np.ndarray, " n"], ours: Float64[np.ndarray, " n"]) -> str:
    """Return how many times as long the peer takes: median (quartiles)."""
    low, median, high = np.quantile(peer / ours, (0.25, 0.5, 0.75))
    return f"{median:.3f} ({low:.3f}-{high:.3f})"


def loading(sets: dict[tuple[str, int], FolderPair], rounds: int) -> None:
    """Measure the loader alone, after its workers have started."""
    batch, skip, batches = 4, 3, 8
    rows = []
    for (name, crop), images in sets.items():
        sizes = (f"data.crop={crop}", f"data.batch_size={batch}", "trainer.max_steps=1000")
        for workers in (0, 1, 2):
            cfg = configuration("trainer=cpu", f"data.num_workers={workers}", *sizes)
            speed = []
            for _ in range(rounds):
                data = SegmentationData(images, **cfg.data)
                data.trainer = build_trainer(cfg)
                times = [now() for _ in islice(data.train_dataloader(), skip + batches)]
                speed.append(batch * batches / (times[-1] - times[skip - 1]))
            wall, cpu = (Spread.of(part) for part in np.array(speed).T)
            rows.append([f"{name}, crop {crop}", workers, wall, "" if workers else cpu])
    show("The loader alone", ["", "workers", "images/s", "images per CPU s"], rows)


def by_precision(images: FolderPair) -> None:
    """Measure float32, TF32 and bfloat16, compiled or not: train.py's default net on a GPU."""
    on_gpu = torch.cuda.is_available()
    steps, skip = (30, 10) if on_gpu else (4, 2)
    net: tuple[str, ...] = ("trainer=gpu", "data.crop=512")
    if not on_gpu:
        net = (*TINY, "trainer=cpu", "data.crop=64", "data.batch_size=2")
    variants = {"float32": ("32-true", "highest"), "bf16": ("bf16-mixed", "highest")}
    if on_gpu:
        variants["TF32"] = ("32-true", "high")
    rows = []
    for variant, (precision, products) in variants.items():
        torch.set_float32_matmul_precision(products)
        for compiled, name in product((False, True), ("bare loop", "our task")):
            length = f"trainer.max_steps={skip + steps}"
            words = (f"trainer.precision={precision}", f"compile={str(compiled).lower()}", length)
            cfg = configuration(*net, *words)
            clock = Clock(steps, skip, on_gpu=on_gpu)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            if name == "our task":
                ours(cfg, images, clock)
            else:
                for _ in bare(cfg, images):
                    clock.on_train_batch_end()
            speed = f"{cfg.data.batch_size * steps / clock.wall:.1f}"
            memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if on_gpu else ""
            title = f"{variant}{', compiled' * compiled}, {name}"
            rows.append([title, speed, clock.busy, memory])
    title = (
        "resnet50 + upernet, crop 512"
        if on_gpu
        else "test_resnet + fpn, crop 64, on the CPU (aot_eager)"
    )
    show(title, ["", "images/s", "GPU busy, %", "memory, GiB"], rows)


def decoding(picture: UInt8[np.ndarray, "H W 3"], crop: int, rounds: int) -> None:
    """Measure what a loader spends per image on decoding, and on a crop with augmentation."""
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    with TemporaryDirectory() as folder:
        images = write_pairs(Path(folder), picture)
        record = images.records()[0]
        jpeg = Path(folder, "a.jpg")
        Image.fromarray(picture).save(jpeg, quality=90)
        transform = SegmentationData(images, batch_size=1, crop=crop).train_dataset().transform
        assert transform
        image = torch.tensor(picture).permute(2, 0, 1)
        target = torch.from_numpy(images.read_target(record))
        peers = {
            "PNG": lambda: images.read(record),
            "JPEG, quality 90": lambda: read_image(jpeg),
            "label, PNG": lambda: images.read_target(record),
            f"crop {crop} with augmentation": lambda: transform(image, target),
        }
        seconds = interleave(peers, rounds)[1]
    rows = [
        [name, Spread.of(1000 * np.array(s)), Spread.of(1000 / megapixels * np.array(s))]
        for name, s in seconds.items()
    ]
    size = "x".join(map(str, picture.shape[1::-1]))
    show(f"Decoding {size} px", ["", "CPU ms an image", "CPU ms a megapixel of it"], rows)


def write_pairs(root: Path, picture: UInt8[np.ndarray, "H W 3"]) -> FolderPair:
    """Write the picture in four rotations, with its brightness as label."""
    label = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 15) // 43
    for folder, array in (("img_dir", picture), ("ann_dir", label)):
        (root / folder / "train").mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.rot90(array, i)).save(root / folder / f"train/{i}.png")
    return FolderPair(root=str(root), classes=[str(i) for i in range(NUM_CLASSES)])


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    rounds = 9 if args.full else 3
    picture = next(iter(load_images(args.data).values()))
    with TemporaryDirectory() as folder:
        large = write_pairs(Path(folder, "1024"), picture)
        potsdam = args.data / "potsdam224"
        if potsdam.is_dir():
            small = FolderPair(root=str(potsdam), classes=large.classes)
        else:
            console.print(f"{potsdam} is not there: a part of the picture is taken instead")
            small = write_pairs(Path(folder, "224"), picture[:224, :224])
        against_bare(small, crop=128, batch=4, steps=60 if args.full else 20)
        against_bare(small, crop=64, batch=2, steps=120 if args.full else 40)
        against_smp(crop=128, batch=2, rounds=rounds)
        loading({("224 px", 224): small, ("1024 px", 224): large, ("1024 px", 512): large}, rounds)
        decoding(picture, crop=512, rounds=3 * rounds)
        by_size(batch=2, rounds=rounds)
        by_precision(large)


if __name__ == "__main__":
    main()
