"""metrics.jsonl: one row per line, each step once across any number of crashes.

A finite float is written with the shortest digits that read back as the same float. JSON has no
other floats, so these are written as the strings `"NaN"`, `"Infinity"` and `"-Infinity"` (the
convention of protobuf's JSON mapping), which `read_rows` turns back: a loss that became infinite
and one that became NaN are different news, and `null` would say neither.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitx.errors import StorageError
from vitx.files import restored_floats, strict_floats


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was in a metrics.jsonl when a session opened it.

    Attributes:
        kept: steps of the rows that stay.
        removed: steps of the rows that are written again.
        bad_line: number of the first line that is no row, if rows lie behind it; else None.
        copy: the file as it was, which a bad line is kept in; None where there is no need.
    """

    kept: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()
    bad_line: int | None = None
    copy: Path | None = None


class JsonlLogger:
    """Appends rows to metrics.jsonl.

    Each row is handed to the operating system at once, so it survives the end of this process;
    `flush` makes it survive the end of the machine. Rows that a full disk does not take wait in
    memory for the next row or flush: no checkpoint is committed without them.

    Attributes:
        found: what was in the file when it was opened.
    """

    def __init__(self, path: Path, *, keep_to_step: int) -> None:
        """Open `path` for appending, after removing what a resumed run writes again.

        Args:
            path: the file; made where it is missing.
            keep_to_step: rows above this step and what is no row are removed; -1 removes every row.
                A file that is damaged in the middle is copied before.

        Raises:
            StorageError: the file can't be read or written.
        """
        self._path = path
        try:
            self.found = _cut(path, keep_to_step)
            # Unbuffered: one row is one write, so a reader never meets half a row for long.
            self._file = path.open("ab", buffering=0)
            self._unwritten = b""
            self._lock = threading.Lock()  # rows come from one thread, flushes from another
            _sync_directory(path.parent)
        except OSError as error:
            raise StorageError(_unwritable(path, error)) from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row, as soon as the disk takes it.

        Args:
            row: plain values by name, with `step` among them.
        """
        with self._lock:
            self._unwritten += encode_row(row) + b"\n"
            with suppress(OSError):  # `flush` says so, when the row has to be there
                self._write()

    def flush(self) -> None:
        """Force the rows onto the disk.

        Raises:
            StorageError: the disk is full or gone.
        """
        try:
            with self._lock:
                self._write()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(_unwritable(self._path, error)) from error

    def _write(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Flush and close; the summary is in result.json and not repeated here.

        Args:
            status: not written; how a run failed is not hidden by a disk that is full as well.
            summary: not written.

        Raises:
            StorageError: the disk is full or gone.
        """
        try:
            self.flush()
        except StorageError:
            if status != "failed":
                raise
        finally:
            self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all whole rows; safe while the run is writing them.

    Args:
        path: a metrics.jsonl.

    Returns:
        The rows in order, up to a torn end; none where there is no file yet.

    Raises:
        StorageError: whole rows lie behind an unreadable line.
    """
    rows, behind = _parse(path)
    if behind:
        raise StorageError(_corrupt(path, len(rows) + 1))
    return rows


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return the row as one line of strict JSON, without the line's end.

    >>> encode_row({"step": 3, "train/loss": float("inf")})
    b'{"step":3,"train/loss":"Infinity"}'
    """
    return json.dumps(strict_floats(dict(row)), allow_nan=False, separators=(",", ":")).encode()


def _parse(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows before the first unreadable line, and the rows behind it."""
    before: list[dict[str, Any]] = []
    behind: list[dict[str, Any]] = []
    into = before
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        row = _parse_line(line)
        if row is None:
            into = behind
        else:
            into.append(row)
    return before, behind


def _parse_line(line: bytes) -> dict[str, Any] | None:
    # A last line without its end may be half of a number that reads as a whole one.
    if not line.endswith(b"\n"):
        return None
    try:
        row = restored_floats(json.loads(line))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def _cut(path: Path, keep_to_step: int) -> Found:
    if not path.exists():
        return Found()
    before, behind = _parse(path)
    kept = [row for row in (*before, *behind) if row["step"] <= keep_to_step]
    steps = frozenset(row["step"] for row in kept)
    found = Found(kept=steps, removed=frozenset(row["step"] for row in (*before, *behind)) - steps)
    if behind and keep_to_step >= 0:
        found = replace(found, bad_line=len(before) + 1, copy=_copied(path))
    content = b"".join(encode_row(row) + b"\n" for row in kept)
    if content != path.read_bytes():
        _replace(path, content)
    return found


def _copied(path: Path) -> Path:
    """Copy a damaged file, to a name that no earlier one has."""
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    copy = next(free for name in names if not (free := path.with_name(name)).exists())
    shutil.copyfile(path, copy)
    return copy


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or error
    return f"{path} has to be readable and writable, but: {reason}; free or mend the disk"


def _corrupt(path: Path, line: int) -> str:
    return (
        f"{path} has to hold one JSON object with a step per line, but line {line} is none;"
        f" mend or delete that line"
    )
