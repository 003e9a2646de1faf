"""Holding a directory for writing: one process does, and whoever comes meanwhile is told which."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitx.errors import RunInUseError, StorageError
from vitx.files import read_json, storage_errors, write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

NAME, OWNER = ".lock", ".owner.json"
# A holder writes down who it is once it holds; until then, what is there is of the one before.
_TOLD_WITHIN_S, _POLL_S = 2.0, 0.02


class Lock:
    """The lock of a directory, which ends with the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = folder / OWNER

    @contextmanager
    def held(self, *, since: str) -> Iterator[None]:
        """Hold it.

        Args:
            since: the time that others are told.

        Raises:
            RunInUseError: another process holds it.
        """
        lock = self._take()
        try:
            write_json(
                self._owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            )
            yield
        finally:
            with suppress(OSError):  # how it went is not hidden by it
                self._owner.unlink(missing_ok=True)
            lock.release()

    def refuse_in_use(self) -> None:
        """Say whether it could be held.

        Raises:
            RunInUseError: another process holds it.
        """
        if (self._folder / NAME).exists():
            self._take().release()

    def is_held(self) -> bool:
        """Whether another process holds it; one that begins is not disturbed."""
        if self._living_owner() is None:
            return False
        try:
            self.refuse_in_use()
        except (RunInUseError, StorageError):  # or it is somebody else's, who lives
            return True
        return False

    def _take(self) -> BaseFileLock:
        # The W&B mirror's process reads this module with the standard library alone.
        from filelock import FileLock, Timeout

        lock = FileLock(self._folder / NAME, timeout=0)
        with storage_errors(self._folder):
            try:  # inside: a Timeout of filelock is an OSError
                lock.acquire()
            except Timeout:
                raise RunInUseError(f"{self._folder} is in use by {self._holder()}") from None
        return lock

    def _holder(self) -> str:
        """Return who holds it; the holder may be about to write that down."""
        deadline = time.monotonic() + _TOLD_WITHIN_S
        while (owner := self._living_owner()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if owner is None:
            return "another process"
        return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"

    def _living_owner(self) -> dict[str, Any] | None:
        """Return who has written that it holds it; None where that one is known to be gone."""
        try:
            owner = read_json(self._owner)
            if owner.get("host") == socket.gethostname():
                os.kill(int(owner["pid"]), 0)
        except PermissionError:  # it is there, and somebody else's
            return owner
        except (StorageError, OSError, LookupError, TypeError, ValueError, OverflowError):
            return None
        return owner
