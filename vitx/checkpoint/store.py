"""Writing, finding, reading and pruning checkpoints.

A checkpoint is a folder `step-00000123` that appears in one rename. Anything else is not one:
what an interrupted write leaves is swept away by the next start.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitx.checkpoint.manifest import (
    find_damage,
    find_file_damage,
    is_proven_finite,
    read_manifest,
    reading,
    refuse_newer,
    write_manifest,
)
from vitx.checkpoint.snapshot import Snapshot
from vitx.config.schema import Weights
from vitx.errors import StorageError
from vitx.files import storage_errors

_NAME = re.compile(r"step-(\d{8})")
_TEMPORARY = ".tmp-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' fcntl.h and fs.h


def commit(folder: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot so that it is there whole or not at all, whatever happens meanwhile.

    Args:
        folder: the run's folder of checkpoints.
        snapshot: what to write, as `Snapshot.copied` returns it.

    Returns:
        The checkpoint's folder; it is durable by the time it is returned.

    Raises:
        StorageError: it could not be written; earlier checkpoints are as they were.
    """
    final = folder / f"step-{snapshot.step:08d}"
    temporary = folder / f"{_TEMPORARY}{snapshot.step}-{socket.gethostname()}-{os.getpid()}"
    with storage_errors(final):
        try:
            if not folder.exists():
                folder.mkdir(parents=True)
                _fsync(folder.parent)
            temporary.mkdir()
            text = json.dumps(snapshot.state, indent=1, ensure_ascii=False)
            _refuse_full(temporary, snapshot.nbytes + len(text), final)
            finite = True
            for name, tensors in snapshot.tensors.items():
                finite = finite and all(_is_finite(tensor) for tensor in tensors.values())
                save_file(tensors, temporary / f"{name}.safetensors")
            (temporary / "state.json").write_text(text + "\n", encoding="utf-8")
            write_manifest(temporary, step=snapshot.step, finite=finite)
            for path in temporary.iterdir():
                _fsync(path)
            _fsync(temporary)
            _put(temporary, final)
            _fsync(folder)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, Exception) and not isinstance(error, OSError | StorageError):
                # safetensors reports a full disk as an error of its own.
                raise StorageError(f"{final} can't be written: {error}") from error
            raise
    return final


def _refuse_full(folder: Path, size: int, final: Path) -> None:
    # Halves of files would take the last room from the rows of metrics.
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(
            f"{final} can't be written: it takes {size / 1e6:.4g} MB and {free / 1e6:.4g} MB are "
            "free; free some space"
        )


def _put(temporary: Path, final: Path) -> None:
    """Give a written folder its name; one that has it already is replaced."""
    if not final.exists():
        temporary.rename(final)
    elif _exchange(temporary, final):
        shutil.rmtree(temporary, ignore_errors=True)
    else:  # for a moment there is none; older ones remain
        _discard(final)
        temporary.rename(final)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths swap their names in one step; False where the system has no such call."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    paths = [os.fsencode(first), os.fsencode(second)]
    done: int = renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
    return done == 0


def steps_in(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint, ascending.

    Raises:
        StorageError: the folder can't be read.
    """
    try:
        with reading(folder):
            matches = [_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()]
    except ValueError:  # none was ever written
        return []
    return sorted(int(match[1]) for match in matches if match)


def path_of(folder: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"


def read_state(folder: Path, step: int) -> dict[str, Any]:
    """Return the plain data of a step's checkpoint; empty where it can't be read."""
    try:
        state = json.loads((path_of(folder, step) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def load_newest(
    folder: Path, *, say: Callable[[str], None], set_aside: bool = True
) -> Snapshot | None:
    """Read the newest good checkpoint; damaged ones are named and set aside.

    Args:
        folder: the run's folder of checkpoints.
        say: told of every damaged checkpoint.
        set_aside: false leaves them where they are.

    Returns:
        The snapshot, or None where no checkpoint was ever written.

    Raises:
        StorageError: there are checkpoints and none of them is good, or one can't be read.
    """
    steps = steps_in(folder)
    for step in reversed(steps):
        path = path_of(folder, step)
        refuse_newer(path)
        damage = find_damage(path)
        if damage is None:
            return _read(path)
        if not set_aside:
            say(f"checkpoint {path.name} is damaged: {damage}")
            continue
        aside = path.with_name(f"{path.name}.corrupt")
        shutil.rmtree(aside, ignore_errors=True)
        with storage_errors(path):
            path.rename(aside)
        say(f"checkpoint {path.name} is damaged: {damage}; set aside as {aside.name}")
    if steps or any(folder.glob("step-*.corrupt")):
        moved = " and set aside as *.corrupt" if set_aside else ""
        raise StorageError(
            f"{folder} has no good checkpoint left; all were damaged{moved}; bring one back from "
            "a copy, or begin again in another run_dir"
        )
    return None


def load(path: Path) -> Snapshot:
    """Read one checkpoint and verify it.

    Returns:
        The snapshot that was committed.

    Raises:
        StorageError: it can't be read.
    """
    refuse_newer(path)
    if damage := find_damage(path):
        raise StorageError(f"checkpoint {path} is damaged: {damage}")
    return _read(path)


def _read(path: Path) -> Snapshot:
    try:
        manifest = read_manifest(path)
        # Only what was verified; a file that somebody put beside it is none of it.
        files = [path / Path(name).name for name in sorted(manifest["files"])]
        tensors = {each.stem: load_file(each) for each in files if each.suffix == ".safetensors"}
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except Exception as error:
        raise StorageError(f"checkpoint {path} can't be read: {error}") from error
    return Snapshot(step=int(manifest["step"]), tensors=tensors, state=state)


def weights_file(path: str, kind: Weights = Weights.auto) -> Path:
    """Return the file that `model.weights` names.

    Args:
        path: a file, a checkpoint folder, or a run, which means its newest checkpoint.
        kind: of a folder or run: the weights or their average; auto takes the average if it is
            there.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    given = Path(path)
    if given.is_file():
        return _undamaged(given)
    checkpoints = steps_in(given / "checkpoints")
    folder = path_of(given / "checkpoints", checkpoints[-1]) if checkpoints else given
    for name in ("ema", "model") if kind is Weights.auto else (kind.name,):
        if (file := folder / f"{name}.safetensors").is_file():
            return _undamaged(file)
    what = "" if kind is Weights.auto else f" with {kind.name}.safetensors"
    raise StorageError(
        f"model.weights={path}: expected a run or a checkpoint folder{what}, or a file of weights"
    )


def _undamaged(file: Path) -> Path:
    if damage := find_file_damage(file):
        raise StorageError(f"model.weights: checkpoint {file.parent} is damaged: {damage}")
    return file


def prune(folder: Path, *, keep: int, also: set[int], is_due: Callable[[int], bool]) -> None:
    """Delete old checkpoints.

    The `keep` newest stay, those in `also`, the newest one whose every value is finite, and the
    newest such one that is due: it is there whether or not the run was ever stopped. What can't
    be read stays too.

    Raises:
        StorageError: the folder can't be read or changed.
    """
    with storage_errors(folder):
        steps = steps_in(folder)
        wanted, finite = {*steps[-keep:], *also}, []
        for step in steps:
            try:
                finite += [step] if is_proven_finite(path_of(folder, step)) else []
            except StorageError:
                wanted.add(step)
        wanted |= {*finite[-1:], *[*filter(is_due, finite)][-1:]}
        for step in set(steps) - wanted:
            _discard(path_of(folder, step))


def sweep(folder: Path) -> None:
    """Delete what interrupted writes left. Only the holder of the run's lock may call this."""
    if folder.is_dir():
        for path in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    # Out of sight in one rename, so that a reader never meets half a checkpoint.
    doomed = path.with_name(f"{_TEMPORARY}trash-{path.name}-{os.getpid()}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # One pass without temporaries; a NaN becomes both the least and the most.
    return all(math.isfinite(extreme) for extreme in torch.aminmax(tensor))


def _fsync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
