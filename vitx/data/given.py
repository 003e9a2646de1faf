"""Pictures that were named one by one, or by their folders, and have no label."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitx.data.decode import BadImageError
from vitx.data.folder import EXTENSIONS, pictures_below
from vitx.data.found import listed
from vitx.data.images import read_encoded
from vitx.errors import DataError, UsageError
from vitx.escapes import visible_line

STDIN = "-"
DRAWN = ".attention.png"
"""What the names of pictures end in that vitx draws beside others; a folder's are passed over."""
_MOST_BYTES = 1 << 28  # of stdin, which need not end


@dataclass(frozen=True, kw_only=True)
class Given:
    """Files that may be pictures, in the order in which they were named.

    Attributes:
        names: path of each file, as it was typed or below a folder that was; `-` is stdin.
        notes: lines the user should read.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]


def find_given(words: Iterable[str]) -> Given:
    """Find the pictures that words stand for; none is read.

    A file is taken whatever its name is. A folder stands for all files below it with the extension
    of a picture, in the order of their paths by code point, whatever the file system returns;
    hidden ones are passed over, symbolic links followed, and what is no picture is counted.

    Args:
        words: paths of files or folders, and `-`.

    Returns:
        The files.

    Raises:
        UsageError: there is nothing at a path.
        DataError: a folder can't be listed, or has no picture.
    """
    names: list[str] = []
    notes: list[str] = []
    for word in words:
        if word == STDIN or os.path.isfile(word):
            names.append(word)
        elif os.path.isdir(word):
            others: Counter[str] = Counter()
            names.extend(_in_folder(Path(word), others))
            if others:
                kinds = listed([f"{count} {suffix}" for suffix, count in sorted(others.items())])
                where = visible_line(word)
                notes.append(f"{others.total()} files below {where} are no pictures: {kinds}")
        elif os.path.exists(word):
            raise UsageError(f"{visible_line(word)}: expected a file or a folder; - takes a pipe")
        else:
            raise UsageError(f"{visible_line(word)}: expected a picture, found nothing there")
    return Given(names=tuple(names), notes=tuple(notes))


def read_given(name: str) -> bytes:
    """Return a picture's file as it is.

    Raises:
        BadImageError: it can't be read.
    """
    if name != STDIN:
        return read_encoded(name)
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise BadImageError(f"more than {_MOST_BYTES >> 20} MiB came by stdin")
    return data


def _in_folder(folder: Path, others: Counter[str]) -> list[str]:
    found = sorted(each for each in pictures_below(folder, others) if not each.endswith(DRAWN))
    if not found:
        wanted = " ".join(sorted(EXTENSIONS))
        where = visible_line(str(folder))
        raise DataError(f"{where}: expected pictures ({wanted}) in it or below, found none")
    return found
