"""A wait that takes too long is ended from a thread beside it, by ending who is waited for.

A batch comes through a pipe and a socket of its loader process. Should that process stand still
with half of it sent, reading the rest has no timeout; its end is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Watchdog:
    """Entered for every wait; its thread begins with the first one.

    Attributes:
        barked: whether a wait took too long.
    """

    def __init__(self, patience_s: float, end: Callable[[], object]) -> None:
        """Start nothing yet.

        Args:
            patience_s: seconds that one wait may take.
            end: called in the thread when one takes longer, once.
        """
        self._patience_s, self._end = patience_s, end
        self.barked = False
        self._changes = 0  # odd while a wait is under way; the thread only reads it
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        self._changes += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._changes += 1

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _watch(self) -> None:
        # In turns, not by the clock: where all was suspended, nobody has waited meanwhile.
        turn_s = min(1.0, self._patience_s)
        seen, waited_s = self._changes, 0.0
        while not self._closed.wait(turn_s):
            before, seen = seen, self._changes
            waited_s = waited_s + turn_s if seen == before and seen % 2 else 0.0
            if waited_s > self._patience_s:
                self.barked = True
                self._end()
                return
