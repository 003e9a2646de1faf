"""Checkpoints of a few numbers."""

from pathlib import Path

import torch

from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import load_newest

FILES = ("ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json")


def snapshot(step: int, *, value: float | None = None) -> Snapshot:
    weights = torch.arange(12.0).reshape(3, 4) + (step if value is None else value)
    taken = Snapshot(
        step=step,
        tensors={
            "model": {"weight": weights.t(), "half": weights.bfloat16(), "count": torch.tensor(7)},
            "ema": {"weight": weights * 2},
            "optimizer": {"state/weight/exp_avg": weights * 3},
        },
        state={"train": {"step": step, "loss": 0.1 + step}, "name": "größe"},
    )
    return taken.copied()


def same(one: Snapshot, other: Snapshot) -> bool:
    return (one.step, one.state) == (other.step, other.state) and all(
        one.tensors[file].keys() == other.tensors[file].keys()
        and all(
            tensor.equal(other.tensors[file][name])
            and tensor.dtype == other.tensors[file][name].dtype
            for name, tensor in tensors.items()
        )
        for file, tensors in one.tensors.items()
    )


def said(folder: Path) -> tuple[Snapshot | None, list[str]]:
    lines: list[str] = []
    return load_newest(folder, say=lines.append), lines


def unreadable(file: Path) -> None:
    """Have a file answer with an input/output error, as on a failing disk."""
    file.unlink()
    file.symlink_to("/proc/self/mem")  # nothing is mapped at its start
