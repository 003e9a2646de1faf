"""Watching the ranks of a run on this machine: signals go on to them, and none outlives another."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType

from vitx.errors import Preempted
from vitx.runtime.rank import Rank
from vitx.runtime.signals import (
    SAME_REQUEST_S,
    Handler,
    end_of,
    give_back,
    hand_on,
    leave,
    take_over,
    terminals,
)

DUMP = signal.SIGQUIT
"""What makes a rank write the stacks of its threads."""

_POLL_S = 0.05
# What the others have to end by themselves once one has failed: they save nothing any more.
_GRACE_S = 5.0
_DUMP_S = 0.5  # to write the stacks


class Supervisor:
    """Waits for ranks. Entered, it passes signals on to them; left, none of them is alive.

    The first request to stop is theirs to carry out; a second one ends them all at once. A rank
    that keeps others waiting is missed by them; that all stand still is noticed here alone.

    Args:
        step_timeout_s: how long all may be stopped by signals.

    Attributes:
        was_suspended: it stood still itself, for longer than that.
    """

    def __init__(self, *, step_timeout_s: float) -> None:
        self._step_timeout_s = step_timeout_s
        self._ranks: list[Rank] = []
        self.was_suspended = False
        self._asked: list[signal.Signals] = []
        self._asked_at = float("-inf")
        self._previous: dict[int, Handler] = {}

    def add(self, rank: Rank) -> None:
        """Watch one more."""
        self._ranks.append(rank)

    def __enter__(self) -> Supervisor:
        self._previous = take_over(self._pass_on)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            self._previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._pause)
        # Ignored, as some programs leave it to theirs, nobody would learn how a rank ended.
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill_all()
        give_back(self._previous)
        if isinstance(error, Preempted) and self._asked:
            hand_on(self._asked[0], self._previous.get(self._asked[0]))

    @property
    def was_asked(self) -> bool:
        """Whether somebody asked the run to stop."""
        return bool(self._asked)

    def wait(self) -> None:
        """Wait until all have ended, and end as they did.

        Raises:
            VitxError: what the first of them came to that did not end well.
            RankLostError: one was killed, hung, or met a bug.
        """
        deadline = float("inf")
        # In turns, not by the clock: a machine that was suspended has missed none of them.
        stopped_turns, turn_at = 0, time.monotonic()
        while alive := [rank for rank in self._ranks if rank.look()]:
            if len(self._asked) > 1:
                self._kill_all()
                break
            before, turn_at = turn_at, time.monotonic()
            self.was_suspended |= turn_at - before > self._step_timeout_s
            stopped_turns = stopped_turns + 1 if all(each.is_stopped for each in alive) else 0
            if deadline < float("inf"):
                if time.monotonic() > deadline:
                    self._give_up(alive, "kept the others waiting")
            elif any(rank.has_failed for rank in self._ranks):
                deadline = time.monotonic() + _GRACE_S
            elif stopped_turns * _POLL_S > self._step_timeout_s:
                self._give_up(alive, f"was stopped by a signal for {self._step_timeout_s:g} s")
            time.sleep(_POLL_S)
        self._judge()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        before, self._asked_at = self._asked_at, time.monotonic()
        if self._asked_at - before < SAME_REQUEST_S:
            return
        self._asked.append(signal.Signals(number))
        if number == signal.SIGHUP:
            leave(terminals())
        for rank in self._ranks:
            rank.send(number)

    def _pause(self, _number: int, _frame: FrameType | None) -> None:
        """Stand still with all ranks, which are out of the reach of the terminal's Ctrl-Z."""
        for rank in self._ranks:
            rank.send_group(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        for rank in self._ranks:
            rank.send_group(signal.SIGCONT)

    def _give_up(self, alive: list[Rank], why: str) -> None:
        """End ranks that don't end by themselves, and keep where they stood."""
        for rank in alive:
            rank.given_up = why
            for number in (signal.SIGCONT, DUMP):
                rank.send(number)
        time.sleep(_DUMP_S)
        self._kill_all()

    def _kill_all(self) -> None:
        for rank in self._ranks:
            rank.kill()

    def _judge(self) -> None:
        """Raise for what went wrong first; what only followed from it is not told."""
        if len(self._asked) > 1:
            end = end_of(self._asked[0])
            raise end(
                f"stopped at once by a second {self._asked[-1].name}; what was saved before is kept"
            )
        ends = [(rank.report, rank) for rank in self._ranks]
        failed = [(each, rank) for each, rank in ends if each is not None and each.kind != "done"]
        if causes := [(each, rank) for each, rank in failed if not each.is_consequence]:
            cause, rank = min(causes, key=lambda end: end[0].at)
            raise rank.of_bug(cause) if cause.kind == "bug" else cause.as_error()
        silent = [rank for report, rank in ends if report is None and not rank.given_up]
        # NCCL aborts a rank that waited in vain for another.
        told = [rank for rank in silent if rank.status != signal.SIGABRT]
        # Woken up for a last word, one that hung may have told a consequence.
        silent = told or [rank for rank in self._ranks if rank.given_up] or silent
        for number in self._asked:
            if any(rank.status == number for rank in silent):
                raise end_of(number)(f"stopped by {number.name} before it began")
        if silent:
            raise min(silent, key=lambda rank: rank.ended_at).of_silence()
        if failed:
            raise min((report for report, _ in failed), key=lambda each: each.at).as_error()
