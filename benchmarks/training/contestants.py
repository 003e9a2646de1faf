"""Training programs that take turns: vitx and timm's train.py, with settings that compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from machine import CpuShare
from PIL import Image

IMAGE_PX, PATCH_PX, CLASSES, BATCH = 32, 4, 10, 64
TIMM_MODEL = "vit_tiny_patch16_224"
EPOCH_LIMIT_S = 600.0
_POLL_S = 0.01
# timm's train.py as it is; what torchvision lacks beside a CPU build of torch is declared first.
LAUNCH = """
import runpy, sys
from vitx.runtime.torchvision_ops import declare_missing_ops
declare_missing_ops()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A while of one contestant.

    Attributes:
        seconds: how long it trained.
        epoch_done: whether it wrote a checkpoint.
        others_s: seconds of the whole CPU that other processes took meanwhile.
    """

    seconds: float
    epoch_done: bool
    others_s: float

    def __add__(self, later: Turn) -> Turn:
        return Turn(
            seconds=self.seconds + later.seconds,
            epoch_done=later.epoch_done,
            others_s=self.others_s + later.others_s,
        )


@dataclass(kw_only=True)
class Contestant:
    """A training program that can be stopped and continued.

    Attributes:
        checkpoint: gives another value after each checkpoint.
    """

    name: str
    command: Sequence[str]
    checkpoint: Callable[[], object]
    log: Path

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start it, train one epoch and leave it stopped; it ends with the context."""
        with self.log.open("wb") as log:
            # A session of its own: signals reach its loader processes too.
            self._process = subprocess.Popen(  # noqa: S603
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._newest = self.checkpoint()
            if not self.train_for(EPOCH_LIMIT_S).epoch_done:
                self.give_up("made no checkpoint")
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def train_for(self, seconds: float) -> Turn:
        """Continue for some seconds, or to the next checkpoint if that is sooner."""
        share = CpuShare(self._process.pid)
        started = time.perf_counter()
        os.killpg(self._process.pid, signal.SIGCONT)
        while True:
            time.sleep(_POLL_S)
            newest, elapsed = self.checkpoint(), time.perf_counter() - started
            if newest != self._newest or elapsed > seconds:
                break
            if self._process.poll() is not None:
                self.give_up("ended")
        os.killpg(self._process.pid, signal.SIGSTOP)
        done, self._newest = newest != self._newest, newest
        return Turn(seconds=elapsed, epoch_done=done, others_s=elapsed * share.of_others())

    def give_up(self, reason: str) -> NoReturn:
        """End the benchmark with a reason and the end of the contestant's log."""
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        raise SystemExit("\n".join([f"{self.name} {reason}:", *lines]))


def vitx_contestant(
    data: Path, folder: Path, precision: str, *further: str, verb: str = "train", name: str = "vitx"
) -> Contestant:
    """Return vitx with settings that compare with timm's; `further` overrides."""
    run = folder / name.replace(" ", "-")
    command = [sys.executable, "-m", "vitx", verb, f"run_dir={run}", f"precision={precision}"]
    command += ["model=vit_ti4", "dataset=folder", f"dataset.path={data}"]
    command += [f"dataset.image_px={IMAGE_PX}", f"batch_size={BATCH}", "epochs=1000"]
    command += ["augmentation=deit", "augmentation.repeats=1", "ema.decay=0.999"]
    command += ["optimizer=adamw", "checkpoint.every=1ep", "evaluation.every=1000ep"]
    command += ["runtime.device=cpu", *further]
    checkpoints = run / "checkpoints"
    return Contestant(
        name=name,
        command=command,
        checkpoint=lambda: _newest_in(checkpoints),
        log=folder / f"{run.name}.txt",
    )


def timm_contestant(
    script: Path, data: Path, folder: Path, precision: str, *further: str
) -> Contestant:
    """Return timm's train.py with settings that compare with vitx's; `further` overrides."""
    classes = sum(path.is_dir() for path in (data / "train").iterdir())
    command = [sys.executable, "-c", LAUNCH, str(script), "--data-dir", str(data)]
    command += ["--val-split", "", "--num-classes", str(classes), "--model", TIMM_MODEL]
    command += ["--model-kwargs", f"patch_size={PATCH_PX}", f"img_size={IMAGE_PX}"]
    command += ["--img-size", str(IMAGE_PX), "--batch-size", str(BATCH), "--epochs", "1000"]
    command += ["--aa", "rand-m9-mstd0.5-inc1", "--reprob", "0.25", "--remode", "pixel"]
    command += ["--mixup", "0.8", "--cutmix", "1.0", "--smoothing", "0.1"]
    command += ["--train-interpolation", "bicubic", "--model-ema", "--model-ema-decay", "0.999"]
    command += ["--opt", "adamw", "--lr", "1e-3", "--weight-decay", "0.05", "--sched-on-updates"]
    command += ["--log-interval", "10", "--checkpoint-hist", "2", "--device", "cpu"]
    command += ["--output", str(folder), "--experiment", "timm", *further]
    if precision == "bf16":
        command += ["--amp", "--amp-dtype", "bfloat16"]
    last = folder / "timm" / "last.pth.tar"
    return Contestant(
        name="timm train.py",
        command=command,
        checkpoint=lambda: last.stat().st_mtime_ns if last.exists() else None,
        log=folder / "timm.txt",
    )


def _newest_in(checkpoints: Path) -> str | None:
    # Asked a hundred times a second, beside the training: globbing would cost more.
    try:
        names = os.listdir(checkpoints)
    except FileNotFoundError:
        return None
    return max((name for name in names if name.startswith("step-")), default=None)


def write_pictures(folder: Path, *, train: int, val: int) -> Path:
    """Write an image folder: smooth colours with noise, PNG, the same every time.

    Returns:
        The folder.
    """
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            path = folder / split / f"class{number % CLASSES}" / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC))
            noisy = smooth + generator.normal(0, 12, smooth.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    return folder
