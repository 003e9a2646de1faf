"""Weight files that others wrote, turned into safetensors without running what is in them.

A pickle can run code, and an archive can unpack to more than it seems. So `foreign_reader` reads a
file in a process of its own that has little memory and time to lose; what it finds is checked and
written as safetensors, which is data.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitx.errors import Interrupted, StorageError

_READER = "vitx.models.foreign_reader"
_LONGEST_ANSWER = 100_000


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was found in a foreign file.

    Attributes:
        tensors: number of tensors written.
        parameters: number of values in them.
        part: which part of the file they were in; empty where it is nothing but them.
        removed: prefixes that were taken off the names.
        left_out: what else was in the file: some of its names, printable and cut.
        more_left_out: how many further ones.
    """

    tensors: int
    parameters: int
    part: str
    removed: tuple[str, ...]
    left_out: tuple[str, ...]
    more_left_out: int


def import_weights(
    file: Path,
    to: Path,
    *,
    part: str | None = None,
    name: str | None = None,
    replace: bool = False,
) -> Imported:
    """Read a `.pth`, `.pt`, `.bin`, `.npz` or `.safetensors` file; write its tensors to another.

    Args:
        file: the foreign file.
        to: a safetensors file, written whole or not at all.
        part: which of several sets of weights to take, such as `teacher`; None is the only one.
        name: timm's name of the architecture; needed for `.npz`, whose names are those of JAX.
        replace: whether `to` may be there already.

    Returns:
        What was found.

    Raises:
        StorageError: the file can't be read, holds more than tensors, or holds bad ones; or the
            other can't be written.
    """
    if not file.is_file():
        what = "a directory" if file.is_dir() else "no regular file"
        raise StorageError(f"{file}: {what if file.exists() else 'no such file'}")
    temporary = to.with_name(f".tmp-{socket.gethostname()}-{uuid.uuid4().hex}-{to.name}")
    request = {"file": str(file), "to": str(temporary), "part": part, "name": name}
    before = mark(file)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        answer = _ask_reader(file, request)
        if mark(file) != before:
            raise StorageError(f"{file} changed while it was read; try again")
        _publish(temporary, to, replace=replace)
    except OSError as error:
        raise StorageError(f"{to} can't be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    lists = {key: tuple(answer[key]) for key in ("removed", "left_out")}
    return Imported(**(answer | lists))


def _publish(temporary: Path, to: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(to)
        return
    try:
        os.link(temporary, to)  # fails where there is something, unlike a rename
    except FileExistsError as error:
        raise StorageError(f"{to} is there already; choose another") from error


def mark(file: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written again."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _ask_reader(file: Path, request: dict[str, Any]) -> dict[str, Any]:
    program = subprocess.Popen(  # noqa: S603 (our own module)
        [sys.executable, "-P", "-m", _READER, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert program.stdout is not None  # noqa: S101 (it is a pipe)
        said = program.stdout.read(_LONGEST_ANSWER)
        program.stdout.close()
        code = program.wait()
    finally:
        program.kill()  # whatever ends the parent ends the reader
        program.wait()
    if code == -signal.SIGINT:
        raise Interrupted("interrupted")
    if code == -signal.SIGXCPU:
        raise StorageError(f"{file}: takes longer to read than weights of its size do")
    if code < 0:
        raise StorageError(f"{file}: reading it ended with {signal.Signals(-code).name}")
    try:
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise StorageError(f"{file} can't be read as weights") from None
    if "error" in answer:
        raise StorageError(f"{file}: {answer['error']}")
    return answer
