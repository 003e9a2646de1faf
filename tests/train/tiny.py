"""Runs of a few steps on a few pictures, and the sum over all that has to be equal among them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vitx.commands.eval import run as score
from vitx.commands.job import Job
from vitx.commands.train import run
from vitx.config.resolve import resolve
from vitx.config.schema import EvalConfig, TrainConfig
from vitx.config.store import compose

EPOCHS, STEPS_PER_EPOCH, BATCH = 2, 6, 8
STEPS = EPOCHS * STEPS_PER_EPOCH
CLASSES = ("ape", "bee", "cow")

TINY = (
    "dataset=folder",
    "dataset.image_px=16",
    "dataset.workers=0",
    "model=vit_ti8",
    "+model.args.embed_dim=24",
    "+model.args.depth=2",
    "+model.args.num_heads=3",
    f"epochs={EPOCHS}ep",
    f"batch_size={BATCH}",
    "logger.every=1st",
    "runtime.threads=1",
)

# Everything that draws from a random state or carries one from step to step.
EVERYTHING = (
    "augmentation=deit",  # RandAugment, erasing, repeats, mixup, cutmix, label smoothing
    "augmentation.erase_prob=0.5",
    "model.drop_path=0.3",
    "model.dropout=0.2",
    "ema.decay=0.9",
    "ema.warmup=true",
    "optimizer.clip_norm=0.5",
    "optimizer.layer_decay=0.8",
    f"runtime.micro_batch={BATCH // 2}",
)

LOADERS_FORK = [
    # What Python 3.12 remarks on loader processes beside threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

_OF_A_SESSION = ("run_dir=", "stop_at=", "resume=")
_TIMES = {"seconds", "train/images_per_second", "train/data_wait", "train/exact_sums"}
_OF_THE_MACHINE = {"images_per_second", "peak_memory_bytes"}


def write_pictures(root: Path, *, train: int = 16, val: int = 7) -> Path:
    """Write that many noisy pictures of each class and split; return the folder."""
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for number, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 120, (12, 12, 3)) + np.eye(3, dtype=int)[number] * 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02d}.png")
    return root


def configure(*overrides: str) -> TrainConfig:
    """Compose and check a configuration as the command line does."""
    # Composing takes a third of such a run: what only a session says is laid over it.
    spoken = dict(word.split("=", 1) for word in overrides if word.startswith(_OF_A_SESSION))
    rest = tuple(word for word in overrides if not word.startswith(_OF_A_SESSION))
    said = {name: None if value == "null" else value for name, value in spoken.items()}
    return dataclasses.replace(_composed(rest), **said)


@functools.cache
def _composed(overrides: tuple[str, ...]) -> TrainConfig:
    return resolve(compose("train", overrides), TrainConfig)


def train(*overrides: str) -> None:
    """Do what `vitx train` does, in this process."""
    run(configure(*overrides), Job(overrides=overrides))


def evaluate(*overrides: str) -> None:
    """Do what `vitx eval` does, in this process."""
    score(resolve(compose("eval", overrides), EvalConfig), Job(overrides=overrides))


def checkpoint(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}"


def newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").glob("step-????????"))


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def logged(run_dir: Path) -> int:
    """Return how many whole rows there are by now."""
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def total(run_dir: Path) -> str:
    """Return one sha256 over all that a run computed.

    That is model, average and optimizer by (name, dtype, shape, bytes) in the order of names,
    counters and callback states, every row of metrics and the result; all but times.
    """
    digest = _tensors(newest(run_dir))
    state = read(newest(run_dir) / "state.json")
    del state["train"]["seconds"]
    del state["callbacks"]["metrics"]["mark"]  # samples and seconds at the last row
    for plain in (state, *map(_without_times, rows(run_dir)), _result(run_dir)):
        digest.update(json.dumps(plain, sort_keys=True).encode())
    return digest.hexdigest()


def weights(run_dir: Path) -> str:
    """Return one sha256 over model, average and optimizer of the newest checkpoint."""
    return _tensors(newest(run_dir)).hexdigest()


def _tensors(folder: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            digest.update(f"{file.name} {name} {tensor.dtype} {tensor.shape} ".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _TIMES}


def _result(run_dir: Path) -> dict[str, Any]:
    if not (run_dir / "result.json").exists():
        return {}
    result = read(run_dir / "result.json")
    return {name: value for name, value in result.items() if name not in _OF_THE_MACHINE}
