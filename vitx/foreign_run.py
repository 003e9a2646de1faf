"""A run directory that somebody else may have written: what in it is refused before it is used.

Whatever vitx writes there it opens by name. Where a link stands under that name, and leads out of
the directory, it would write into another file of the user.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitx.errors import StorageError

_LEVELS = 3  # a file of a checkpoint lies so deep
_OF_A_CLIENT = "wandb"  # below its first level lie what the W&B client names by itself
_WANDB_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_NUMBER = (int, float)
_MOST_THREADS = 1 << 15
_SCORES: dict[str, tuple[type, ...]] = {
    "top1": _NUMBER,
    "top5": _NUMBER,
    "loss": _NUMBER,
    "count": (int,),
}


def refuse_strange_entries(run: Path) -> None:
    """Refuse what a run directory never holds: links that lead out of it, pipes, devices.

    The directory itself may be reached by a link.

    Raises:
        StorageError: there is such an entry, or the directory can't be listed or be read from.
    """
    refuse_other_bytes(run)
    root = os.path.realpath(run)
    try:
        for entry in _entries(run):
            if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), root):
                raise StorageError(
                    f"{entry.path} is a link that leads out of the run; put what it leads to in "
                    "its place (the run directory as a whole may be a link)"
                )
            mode = entry.stat(follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise StorageError(f"{entry.path} is no regular file; remove it")
    except OSError as error:
        raise StorageError(f"{run} can't be listed: {error.strerror}") from error


def refuse_other_bytes(run: Path) -> None:
    """Refuse a name that is no UTF-8: safetensors opens no file there.

    Raises:
        StorageError: it is none.
    """
    if any("\ud800" <= character <= "\udfff" for character in str(run)):
        raise StorageError(f"{run} is no name in UTF-8, which checkpoints need; choose another")


def _entries(folder: Path | str, *, levels: int = _LEVELS) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            below = 1 if entry.name == _OF_A_CLIENT else levels - 1
            if below and levels > 1 and entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, levels=below)


def _is_inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Turn what data of another shape than vitx writes lead to into a StorageError.

    Args:
        path: where they were read.

    Raises:
        StorageError: the body stumbled over them.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise StorageError(
            f"{path} is not as vitx writes it ({type(error).__name__}: {error})"
        ) from error


def check_record(record: Mapping[str, Any], path: Path) -> None:
    """Check the entries of run.json that vitx reads again.

    Raises:
        StorageError: one of them is of another kind than vitx writes.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "started": (str,),
        "seconds": _NUMBER,
        "sessions": (int,),
        "environment": (dict, type(None)),
        "exact": (dict,),
        "metrics_missing": (list,),
        "data": (str, type(None)),
        "classes": (list, type(None)),
        "weights": (dict, type(None)),
        "teachers": (list, type(None)),
        "wandb_id": (str, type(None)),
    }
    _check_kinds(record, kinds, path)
    with as_written(path):
        _check_inside(record)


def _check_inside(record: Mapping[str, Any]) -> None:
    texts = [
        *(record.get("classes") or ()),
        *record.get("exact", {"why": []})["why"],
        *(teacher["sha256"] for teacher in record.get("teachers") or ()),
    ]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected texts")
    threads = (record.get("environment") or {}).get("threads", 1)
    if (
        isinstance(threads, bool)
        or not isinstance(threads, int)
        or not 1 <= threads < _MOST_THREADS
    ):
        raise ValueError(f"environment.threads is {threads!r}")
    if (wandb_id := record.get("wandb_id")) and not _WANDB_ID.fullmatch(wandb_id):
        raise ValueError(f"wandb_id is {wandb_id!r}")


def check_result(result: Mapping[str, Any], path: Path) -> None:
    """Check the entries of result.json that vitx reads again.

    Raises:
        StorageError: one of them is missing or of another kind than vitx writes.
    """
    with as_written(path):
        _check_scores(result, path)
        _check_kinds(result, {"step": (int,), "model": (dict,), "ema": (dict,)}, path)
        for weights in ("model", "ema"):
            if weights in result:
                _check_scores(result[weights], path)
                for scores in result[weights].get("heads", {}).values():
                    _check_scores(scores, path)


def _check_scores(scores: Mapping[str, Any], path: Path) -> None:
    if "top1" not in scores:
        raise ValueError("there is no top1")
    _check_kinds(scores, _SCORES, path)


def _check_kinds(
    data: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], path: Path
) -> None:
    for name, wanted in kinds.items():
        value = data.get(name) if name in data else wanted[0]()
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise StorageError(f"{path}: {name} is {value!r:.80}, which vitx does not write")
