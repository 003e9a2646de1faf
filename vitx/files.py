"""Files that a reader sees whole or not at all, and what goes wrong with a disk, as our errors."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitx.errors import LONGER_FILES, StorageError

_FILE_THERE = "a file stands where a directory is needed"
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def writable_place(path: Path) -> Path:
    """Return the nearest directory that exists, if a directory could be made at a path.

    Raises:
        StorageError: it could not, or nothing could be written into it.
    """
    place = path.absolute()
    with storage_errors(path):
        while not place.exists():
            if place.is_symlink():
                raise StorageError(f"{place} is a file; a directory is needed")
            place = place.parent
        if not place.is_dir():
            raise StorageError(f"{path} can't be written: {_FILE_THERE}")
        with tempfile.TemporaryFile(dir=place) as probe:  # has no name
            probe.write(b"\0" * 4096)
    return place


def prove_writable(folder: Path) -> None:
    """Write into a directory, and leave nothing.

    Raises:
        StorageError: that can't be done.
    """
    with storage_errors(folder), tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
        probe.write(b"\0" * 4096)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        StorageError: it is missing or damaged.
    """
    try:
        data = restored_floats(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise StorageError(f"{path} holds no object")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old or the new one, never a part."""
    text = json.dumps(strict_floats(data), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file as `write_bytes` does.

    Raises:
        StorageError: it can't be written.
    """
    # Bytes of a name that are no UTF-8 become escapes, as JSON has them.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step, by one that others than owner and group can't read.

    Raises:
        StorageError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with storage_errors(path):
            temporary.unlink(missing_ok=True)  # not written through, should it be a link
            with open(temporary, "xb", opener=not_for_others) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):  # how it went is not hidden by it
            temporary.unlink(missing_ok=True)


def not_for_others(path: str, flags: int) -> int:
    """Open a file; one that is made is for owner and group at most, as the umask has it."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o660)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error about a path into a StorageError."""
    try:
        yield
    except FileExistsError as error:
        raise StorageError(f"{error.filename or path} is a file; a directory is needed") from error
    except OSError as error:
        hint = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the quota is used up; free some space and run the same command again",
            errno.ENOTDIR: _FILE_THERE,
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "no permission to write",
            errno.ENAMETOOLONG: "the name is too long",
            errno.ELOOP: "a link stands in its place",
            errno.EISDIR: "a directory stands in its place; move it away",
            errno.EFBIG: f"File too large; {LONGER_FILES}",
        }.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"{path} can't be written: {hint}") from error


def strict_floats(value: Any) -> Any:
    """Replace floats that JSON does not have by `"NaN"`, `"Infinity"` and `"-Infinity"`."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: strict_floats(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_floats(item) for item in value]
    return value


def restored_floats(value: Any) -> Any:
    """Undo `strict_floats`."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {name: restored_floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [restored_floats(item) for item in value]
    return value
