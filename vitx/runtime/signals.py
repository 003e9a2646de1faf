"""Being asked to stop: one signal saves and leaves, a second one leaves at once."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from vitx.errors import Interrupted, Paused, Preempted, RankLostError, Stopped, VitxError
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

    Raises:
        Stopped: somebody has asked already, and what was under way then did not end of it.
    """
    for before in map(signal.getsignal, HANDLED):
        if isinstance(before, StandBy):
            before.relieve()
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
    if isinstance(before, StandBy):
        before.note(number)
    elif callable(before) and before is not signal.default_int_handler:
        before(number, None)


def terminals() -> list[int]:
    """Return which of stdout and stderr are terminals."""
    return [number for number in (1, 2) if os.isatty(number)]


def leave(terminals: list[int]) -> None:
    """Write no more to terminals that are gone: it would be an error."""
    for terminal in terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)


def leave_at_once(number: int) -> NoReturn:
    """End the process by a second signal, and say so; nothing is tidied up."""
    # Of several ranks whoever started them speaks. No stream: a handler may stand in the middle of
    # one that writes.
    if "RANK" not in os.environ:
        name = signal.Signals(number).name
        line = f"vitx: stopped at once by a second {name}; what was saved before is kept\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())
    os._exit(end_of(number).exit_code)


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, however it ends; Linux only."""
    import ctypes  # takes a third of what this module does, and the program begins with it

    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(RankLostError.exit_code)


class StandBy:
    """Handles the signals of `HANDLED` for the program, wherever no loop polls for them.

    The first one raises `Stopped` in what is under way, as a Ctrl-C does; a second one ends the
    process at once. Runs take over from it and give back.
    """

    def __init__(self, where: str = "") -> None:
        """Say `where` of an end before any run took over."""
        self._where = where
        self._asked: int | None = None
        self._asked_s = -math.inf
        self._code: int | None = None
        self._owner = os.getpid()

    def begin(self) -> None:
        """Handle them from now on, but for those that are ignored, as nohup has them."""
        for number in HANDLED:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            Stopped: the first one does.
        """
        if os.getpid() != self._owner:  # a process that was forked has no end of ours
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._code is not None:
            os._exit(self._code)
        before, asked_s = self._asked, self._asked_s
        self.note(number)
        if self._asked_s - asked_s < SAME_REQUEST_S:
            return
        if before is not None:
            leave_at_once(number)
        if number == signal.SIGHUP:
            leave(terminals())
        raise self._stopped(number)

    def note(self, number: int) -> None:
        """Take a signal that somebody acted on for the first one."""
        self._asked, self._asked_s = number, time.monotonic()

    def relieve(self) -> None:
        """Hand over to a run.

        Raises:
            Stopped: a signal came before, and a library dropped the error that it raised.
        """
        if self._asked is not None:
            raise self._stopped(self._asked)
        self._where = ""

    def conclude(self, code: int) -> None:
        """From now on any signal ends the process with its code: its end has been told."""
        self._code = code

    def _stopped(self, number: int) -> Stopped:
        return Stopped(end_of(number)(f"stopped by {signal.Signals(number).name}{self._where}"))


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
            leave_at_once(number)
        self._number = number
        self.reason, self._kind = signal.Signals(number).name, kind
        if number == signal.SIGHUP:
            leave(self._terminals)
        elif 2 in self._terminals:
            os.write(2, b"\nstopping; once more to leave at once\n")
