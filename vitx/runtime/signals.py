"""Being asked to stop: one signal saves and leaves, a second one leaves at once."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from vitx.errors import Interrupted, Paused, Preempted, RankLostError, VitxError
from vitx.runtime.world import ALONE, World

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask a run to stop; the last two are those that Slurm users have sent in time."""

# `timeout` and some schedulers signal a process and then its whole group: that is one request.
SAME_REQUEST_S = 0.1
# A rank may get one from a scheduler and the same one from its launcher, which may be slow.
_SAME_REQUEST_OF_RANK_S = 2.0
_PR_SET_PDEATHSIG = 1  # of Linux' prctl.h

Handler = Callable[[int, FrameType | None], Any] | int | None


def end_of(number: int) -> type[Interrupted] | type[Preempted]:
    """Return the end that a signal asks for."""
    return Interrupted if number == signal.SIGINT else Preempted


def take_over(handler: Callable[[int, FrameType | None], None]) -> dict[int, Handler]:
    """Handle the signals of `HANDLED`, but for those that are ignored, as nohup has them.

    Returns:
        What `give_back` takes.
    """
    wanted = [number for number in HANDLED if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in wanted}


def give_back(handlers: dict[int, Handler]) -> None:
    """Undo `take_over`."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def hand_on(number: int, before: Callable[[int, FrameType | None], Any] | int | None) -> None:
    """Let who handled a signal before this run did act on it, now that all is saved.

    So a launcher of jobs comes to send one back into its queue.

    Args:
        number: the signal that ended the run.
        before: its handler before the run; none, or Python's own, does nothing.
    """
    if callable(before) and before is not signal.default_int_handler:
        before(number, None)


def terminals() -> list[int]:
    """Return which of stdout and stderr are terminals."""
    return [number for number in (1, 2) if os.isatty(number)]


def leave(terminals: list[int]) -> None:
    """Write no more to terminals that are gone: it would be an error."""
    for terminal in terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, however it ends; Linux only."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(RankLostError.exit_code)


class StopRequest:
    """Notes the signals of `HANDLED` while it is entered; loops poll it at their boundaries.

    SIGHUP is a terminal or connection that went away; under `nohup` it stays ignored.

    The second signal of any kind ends the process at once: checkpoints are committed atomically,
    so the newest one stays good.

    Where a run has several ranks, a request that any of them has noted becomes one of all of them
    when they `agree`, and not before: they stop at the same step, whichever was asked.
    """

    def __init__(self, world: World = ALONE) -> None:
        self._world, self._agreed = world, False
        self._number = 0
        self.reason: str | None = None
        self._kind: type[VitxError] = Preempted
        self._noted_s = -math.inf
        self._owner = os.getpid()
        self._same_request_s = _SAME_REQUEST_OF_RANK_S if "RANK" in os.environ else SAME_REQUEST_S
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> StopRequest:
        self._terminals = terminals()
        self._previous = take_over(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        give_back(self._previous)
        if isinstance(error, Preempted) and self._number:
            hand_on(self._number, self._previous.get(self._number))

    def __bool__(self) -> bool:
        return self._agreed if self._world.size > 1 else self.reason is not None

    def agree(self) -> bool:
        """Let the ranks tell each other what they were asked, and say whether to stop."""
        if not self and (number := self._world.highest(self._number)):
            self._agreed = True
            self.reason, self._kind = signal.Signals(number).name, end_of(number)
        return bool(self)

    def ask(self, reason: str) -> None:
        """Ask to stop from inside the program, as every rank does: the configuration says so."""
        self.reason, self._kind, self._agreed = reason, Paused, True

    def as_error(self, where: str) -> VitxError:
        """Return the end this request leads to: interrupted, preempted or paused."""
        return self._kind(f"stopped by {self.reason} {where}")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A loader worker inherited this handler; its parent decides when it ends.
            return
        before, self._noted_s = self._noted_s, time.monotonic()
        if self._noted_s - before < self._same_request_s:
            return
        kind = end_of(number)
        if before > 0:
            os._exit(kind.exit_code)
        self._number = number
        self.reason, self._kind = signal.Signals(number).name, kind
        if number == signal.SIGHUP:
            leave(self._terminals)
        elif 2 in self._terminals:
            os.write(2, b"\nstopping after this step; once more to leave at once\n")
