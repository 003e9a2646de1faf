"""Being asked to stop: one signal saves and leaves, a second one leaves at once."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from vitx.errors import Interrupted, Paused, Preempted, VitxError

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` and some schedulers signal a process and then its whole group: that is one request.
_SAME_REQUEST_S = 0.1


class StopRequest:
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; loops poll it at their boundaries.

    SIGHUP is a terminal or connection that went away; under `nohup` it stays ignored.

    The second signal of any kind ends the process at once: checkpoints are committed atomically,
    so the newest one stays good.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._kind: type[VitxError] = Preempted
        self._noted_s = -math.inf
        self._owner = os.getpid()
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> StopRequest:
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        for number in _HANDLED:
            if signal.getsignal(number) != signal.SIG_IGN:
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
        """Ask to stop from inside the program, since the configuration says so."""
        self.reason, self._kind = reason, Paused

    def as_error(self, where: str) -> VitxError:
        """Return the end this request leads to: interrupted, preempted or paused."""
        return self._kind(f"stopped by {self.reason} {where}")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A loader worker inherited this handler; its parent decides when it ends.
            return
        before, self._noted_s = self._noted_s, time.monotonic()
        if self._noted_s - before < _SAME_REQUEST_S:
            return
        kind = Interrupted if number == signal.SIGINT else Preempted
        if before > 0:
            os._exit(kind.exit_code)
        self.reason, self._kind = signal.Signals(number).name, kind
        if number == signal.SIGHUP:
            for terminal in self._terminals:  # writing to one that is gone is an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        elif 2 in self._terminals:
            os.write(2, b"\nstopping after this step; once more to leave at once\n")
