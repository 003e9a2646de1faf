"""A file between this process and those forked from it, which no full disk can refuse."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress


class MemoryFile:
    """A file in memory that has no name for others; where the system has none, a temporary one.

    Attributes:
        number: its descriptor, which forked processes share; each may write and none seeks.
        path: what it is opened by, in this process and in forked ones.

    Raises:
        OSError: too many files are open.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.number = os.memfd_create("vitx")
            self.path = f"/proc/self/fd/{self.number}"
        else:
            self.number, self.path = tempfile.mkstemp(prefix="vitx-")

    def __enter__(self) -> MemoryFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)
        with suppress(OSError):  # in memory there is no name to take away
            os.unlink(self.path)

    def write(self, text: str) -> None:
        """Add a text at the end."""
        with open(self.number, "ab", closefd=False) as file:
            file.write(text.encode(errors="backslashreplace"))

    def read(self) -> str:
        """Return all that was written."""
        size = os.fstat(self.number).st_size
        return os.pread(self.number, size, 0).decode(errors="replace")
