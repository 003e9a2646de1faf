"""stdin, stdout and stderr as the program finds them: closed, full, or of a narrow encoding."""

from __future__ import annotations

import io
import mmap
import os
import sys
from typing import TextIO

# Why stdout could not be written, as an errno, whichever process of a run wrote: shared by forks.
_REASON: list[mmap.mmap] = []


def settle_descriptors() -> None:
    """Have those that are closed lead nowhere, so that no file of ours becomes one of them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(number, True)


def settle_streams() -> None:
    """Have Python's streams take every letter, and nobody end because they can't be written.

    What can't be written is lost; of stdout, `output_error` tells. That nobody reads stdout any
    more stays an error.
    """
    _REASON[:] = [mmap.mmap(-1, 1)]
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _opened(_Output(1, "w", closefd=False), sys.stdout, by_line=False)
    sys.stderr = _opened(_Raw(2, "w", closefd=False), sys.stderr, by_line=True)


def output_error() -> str | None:
    """Return why some of stdout could not be written; None where all of it was."""
    number = _REASON[0][0] if _REASON else 0
    return os.strerror(number) if number else None


class _Raw(io.FileIO):
    """A descriptor; what can't be written to it is lost."""

    def write(self, data: object, /) -> int:
        """Write bytes, or all but the first of them; return the number of those that are done."""
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return super().write(view)
        except OSError as error:
            self._lose(error)
            return view.nbytes

    def _lose(self, error: OSError) -> None:
        """Do nothing about it: there is nowhere to tell."""


class _Output(_Raw):
    def _lose(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        _REASON[0][0] = error.errno or 1


def _opened(raw: io.FileIO, before: TextIO | None, *, by_line: bool) -> TextIO:
    """Return a stream that writes when the one before it would have; None: it was closed."""
    known = before if isinstance(before, io.TextIOWrapper) else None
    at_once = known is not None and known.write_through
    return io.TextIOWrapper(
        raw if at_once else io.BufferedWriter(raw),
        encoding=known.encoding if known else "utf-8",
        errors="backslashreplace",
        line_buffering=known.line_buffering if known else by_line,
        write_through=at_once,
    )
