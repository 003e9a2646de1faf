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

import numpy as np
from machine import CpuShare
from PIL import Image

IMAGE_PX, PATCH_PX, CLASSES, BATCH = 32, 4, 10, 64
TIMM_MODEL = "vit_tiny_patch16_224"
EPOCH_LIMIT_S = 600.0
# timm's train.py as it is; what torchvision lacks beside a CPU build of torch is declared first.
LAUNCH = """
import runpy, sys
from vitx.runtime.torchvision_ops import declare_missing_ops
declare_missing_ops()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


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
            self._until_checkpoint()
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def train_epoch(self) -> tuple[float, float]:
        """Continue to the next checkpoint.

        Returns:
            Seconds, and the share of the CPU that other processes took meanwhile.
        """
        share = CpuShare(self._process.pid)
        started = time.perf_counter()
        os.killpg(self._process.pid, signal.SIGCONT)
        seconds = self._until_checkpoint() - started
        return seconds, share.of_others()

    def _until_checkpoint(self) -> float:
        before = self.checkpoint()
        deadline = time.perf_counter() + EPOCH_LIMIT_S
        while self.checkpoint() == before:
            if self._process.poll() is not None or time.perf_counter() > deadline:
                raise SystemExit(f"{self.name} made no checkpoint:\n{self._log_end()}")
            time.sleep(0.005)
        ended = time.perf_counter()
        os.killpg(self._process.pid, signal.SIGSTOP)
        return ended

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def vitx_contestant(data: Path, folder: Path, precision: str, *further: str) -> Contestant:
    """Return vitx with settings that compare with timm's; `further` overrides."""
    run = folder / "vitx"
    command = [sys.executable, "-m", "vitx", "train", f"run_dir={run}", f"precision={precision}"]
    command += ["model=vit_ti4", "dataset=folder", f"dataset.path={data}"]
    command += [f"dataset.image_px={IMAGE_PX}", f"batch_size={BATCH}", "epochs=1000"]
    command += ["augmentation=deit", "augmentation.repeats=1", "ema.decay=0.999"]
    command += ["optimizer=adamw", "checkpoint.every=1ep", "evaluation.every=1000ep"]
    command += ["runtime.device=cpu", *further]
    checkpoints = run / "checkpoints"
    return Contestant(
        name="vitx",
        command=command,
        checkpoint=lambda: max((each.name for each in checkpoints.glob("step-*")), default=None),
        log=folder / "vitx.txt",
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
