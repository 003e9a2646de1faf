"""This side of the process that looks: hears what it finds, and survives what ends it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

from vitx.doctor.findings import Finding, Grade, problem
from vitx.errors import UsageError

_PATIENCE_S = 60.0  # a cold network disk takes long to import torch from


@dataclass
class _Progress:
    """Where the process is that looks.

    Attributes:
        names: of the checks, in their order.
        at: number of the check.
        trying: the library that it imports.
        unusable: those that ended it.
    """

    names: Sequence[str]
    at: int = 0
    trying: str = ""
    unusable: list[str] = field(default_factory=list)


def examine(verb: str, words: Sequence[str], names: Sequence[str]) -> Iterator[Finding]:
    """Look at everything, in processes of their own.

    Args:
        verb: of the planned run.
        words: behind it.
        names: of the checks, in their order.

    Yields:
        What is found, as it is found.

    Raises:
        UsageError: the words can't be carried out.
    """
    progress = _Progress(names)
    while progress.at < len(names):
        process = _start(verb, words, progress)
        try:
            for message in _messages(process):
                match message:
                    case {"at": int(number)}:
                        progress.at, progress.trying = number, ""
                    case {"trying": str(library)}:
                        progress.trying = library
                    case {"finding": dict(found)}:
                        yield Finding(**{**found, "grade": Grade[found["grade"]]})
                    case {"usage": str(line)}:
                        raise UsageError(line)
                    case {"done": True}:
                        return
            yield _ended(process, progress)
        finally:
            _end(process)
        progress.unusable += [progress.trying] if progress.trying else []
        # Libraries behind the one that ended it are imported in another process.
        progress.at += 0 if progress.trying else 1
        progress.trying = ""


def _start(verb: str, words: Sequence[str], progress: _Progress) -> subprocess.Popen[bytes]:
    places = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    # A fixed program; -P keeps files of the working directory from being taken for libraries.
    return subprocess.Popen(  # noqa: S603
        [
            sys.executable,
            "-P",
            "-m",
            "vitx.doctor.examination",
            str(progress.at),
            ",".join(progress.unusable),
            verb,
            *words,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": places},
    )


def _messages(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what it says, until it ends or says nothing for `_PATIENCE_S`."""
    said, complaints = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
    begun, deadline = b"", time.monotonic() + _PATIENCE_S
    open_ = [said, complaints]
    while said in open_ and (left_s := deadline - time.monotonic()) > 0:
        for stream in select.select(open_, [], [], left_s)[0]:
            part = os.read(stream.fileno(), 65536)
            if not part:
                open_.remove(stream)
            elif stream is said:
                *lines, begun = (begun + part).split(b"\n")
                yield from map(json.loads, lines)
                deadline = time.monotonic() + _PATIENCE_S


def _ended(process: subprocess.Popen[bytes], progress: _Progress) -> Finding:
    """Return that the process ended, or was silent, where it should not."""
    name, what, mend = progress.names[progress.at], "looking at it", ""
    if progress.trying:
        name, what = "libraries", f"importing {progress.trying}"
        mend = f"install {progress.trying} again; its build may be for another processor or Python"
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return problem(name, f"{what} takes longer than {_PATIENCE_S:.0f} s; is a disk away?", mend)
    how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    return problem(name, f"{what} ends the process {how}", mend)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return  # it waits for a disk, and nothing can end it
