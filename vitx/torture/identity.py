"""What a run computed: read from its directory, and one sha256 over all of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_TIMES = {"seconds", "train/images_per_second", "train/data_wait", "train/exact_sums"}
_OF_THE_MACHINE = {"images_per_second", "peak_memory_bytes"}


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


def checkpoint(run_dir: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints that have their name, oldest first: those that are acknowledged."""
    return sorted((run_dir / "checkpoints").glob("step-????????"))


def newest(run_dir: Path) -> Path:
    """Return the newest checkpoint."""
    return checkpoints(run_dir)[-1]


def acknowledged(run_dir: Path) -> int:
    """Return the step of the newest checkpoint; 0 without one."""
    return max((int(folder.name[5:]) for folder in checkpoints(run_dir)), default=0)


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def logged(run_dir: Path) -> int:
    """Return how many whole rows there are by now."""
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _tensors(folder: Path) -> hashlib._Hash:
    from safetensors import deserialize

    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in sorted(deserialize(file.read_bytes())):  # type: ignore[no-untyped-call]
            digest.update(f"{file.name} {name} {tensor['dtype']} {tensor['shape']} ".encode())
            digest.update(tensor["data"])
    return digest


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _TIMES}


def _result(run_dir: Path) -> dict[str, Any]:
    if not (run_dir / "result.json").exists():
        return {}
    result = read(run_dir / "result.json")
    return {name: value for name, value in result.items() if name not in _OF_THE_MACHINE}
