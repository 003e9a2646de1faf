"""The folder of a sweep that is named after the time: two of the same second have two."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from vitx.files import storage_errors
from vitx.runs import PRIVATE


def new_folder(path: Path) -> Path:
    """Make a folder that is not there yet.

    Args:
        path: of the folder; where there is one, it gets a number behind its name.

    Returns:
        What was made.

    Raises:
        StorageError: it can't be made.
    """
    names = chain([path.name], (f"{path.name}-{number}" for number in count(2)))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        return next(made for name in names if (made := _made(path.with_name(name))))


def _made(path: Path) -> Path | None:
    try:
        path.mkdir(mode=PRIVATE)
    except FileExistsError:
        return None
    return path
