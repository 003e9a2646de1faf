"""A file of stored answers or features: whose they are, how many, a sha256 over all of them.

Shapes: P places.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PRESENT = "present"


def read_shard(
    path: Path,
    *,
    identity: str,
    like: Mapping[str, Tensor],
    others: str = "answers of another teacher, augmentation, epoch or place",
) -> dict[str, Tensor]:
    """Read a shard that is what it should be.

    Args:
        path: the file.
        identity: whose answers, and to what.
        like: [P, ...] tensors of the wanted names, shapes and types.
        others: what one of another identity holds, for the error.

    Returns:
        Those tensors.

    Raises:
        ValueError: it is of another identity or shape, or not what was written.
        SafetensorError: it is no such file.
    """
    with safe_open(path, framework="pt") as file:
        told = file.metadata() or {}
        if told.get("identity") != identity:
            raise ValueError(f"it holds {others}")
        held = {name: file.get_tensor(name) for name in like}
    for name, tensor in held.items():
        if tensor.shape != like[name].shape or tensor.dtype != like[name].dtype:
            raise ValueError(f"{name} is of another shape or type")
    if told.get("sha256") != _sha256(held):
        raise ValueError("its contents are not what was written")
    return held


def write_shard(path: Path, tensors: Mapping[str, Tensor], *, identity: str) -> None:
    """Replace a shard in one step: a reader sees the old or the new one, never a part.

    Args:
        path: the file.
        tensors: [P, ...] each; `present`, [P] bool, among them.
        identity: whose answers they are, and to what.

    Raises:
        OSError: it can't be written.
    """
    told = {
        "identity": identity,
        "sha256": _sha256(tensors),
        "present": str(int(tensors[PRESENT].sum())),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            save_file(dict(tensors), temporary, metadata=told)
        except SafetensorError as error:  # a full disk, in its own words
            raise OSError(str(error)) from error
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def count_present(path: Path, *, identity: str) -> int:
    """Return how many answers of that identity a shard says it has; 0 where it can't be read."""
    with (
        contextlib.suppress(OSError, SafetensorError, ValueError),
        safe_open(path, framework="pt") as file,
    ):
        told = file.metadata() or {}
        return int(told["present"]) if told.get("identity") == identity else 0
    return 0


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
