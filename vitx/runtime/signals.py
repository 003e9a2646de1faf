"""Being asked to stop: one signal saves and leaves, a second one leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from vitx.errors import Interrupted, Preempted, VitxError

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes SIGINT and SIGTERM while it is entered; loops poll it at their boundaries.

    The second signal of any kind ends the process at once: checkpoints are committed atomically,
    so the newest one stays good.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._interrupted = False
        self._owner = os.getpid()
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> StopRequest:
        for number in _HANDLED:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Ask to stop from inside the program, as a scheduler would from outside."""
        self.reason = reason

    def as_error(self, where: str) -> VitxError:
        """Return the end this request leads to: interrupted by the user, or preempted."""
        kind = Interrupted if self._interrupted else Preempted
        return kind(f"stopped by {self.reason} {where}")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A loader worker inherited this handler; its parent decides when it ends.
            return
        if self.reason is not None:
            os._exit(130 if number == signal.SIGINT else 75)
        self._interrupted = number == signal.SIGINT
        self.reason = signal.Signals(number).name
