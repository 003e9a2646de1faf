"""Directories that are made for a run, and taken away again where it was refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def make_folder(path: Path, *, mode: int) -> tuple[Path, ...]:
    """Make a directory where there is none, and those above it.

    Args:
        path: of the directory.
        mode: of it; those above it are as the umask has them.

    Returns:
        What was made, innermost first; nothing where the directory was there before.

    Raises:
        FileExistsError: something else stands in its place.
        OSError: it can't be made.
    """
    made = absent(path)
    try:
        path.mkdir(parents=True, mode=mode)
    except FileExistsError:  # there before, or somebody was faster
        if not path.is_dir():
            raise
        return ()
    return made


def absent(path: Path) -> tuple[Path, ...]:
    """Return what is not there of a path and the directories above it, innermost first."""
    return tuple(itertools.takewhile(lambda each: not each.exists(), (path, *path.parents)))


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove directories, given innermost first, up to one that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
