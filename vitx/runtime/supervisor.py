"""Watching the ranks of a run on this machine: signals go on to them, and none outlives another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType

from vitx import errors
from vitx.errors import Preempted, RankLostError, VitxError
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


@dataclass
class Rank:
    """A process of a run; `status` is its wait status once it has ended."""

    number: int
    pid: int
    status: int | None = None
    ended_at: float = 0.0
    given_up: bool = False  # ended by the supervisor


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a rank says of its end.

    Attributes:
        kind: done, error (explained by one line), or bug.
        type: class of the error.
        text: the line, or the traceback of a bug.
        at: time of it, in seconds.
    """

    kind: str
    at: float
    type: str = ""
    text: str = ""

    @classmethod
    def done(cls) -> Report:
        """It ended well."""
        return cls(kind="done", at=time.time())

    @classmethod
    def error(cls, error: VitxError) -> Report:
        """It ended as `error` says."""
        return cls(kind="error", type=type(error).__name__, text=str(error), at=time.time())

    @classmethod
    def bug(cls, text: str) -> Report:
        """It met a bug, with this traceback."""
        return cls(kind="bug", text=text, at=time.time())

    def write(self, folder: Path, number: int) -> None:
        """Leave it for the supervisor."""
        temporary = folder / f".report-{number}"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / f"report-{number}")

    @classmethod
    def read(cls, folder: Path, number: int) -> Report | None:
        """Return what a rank left; None where it left nothing."""
        try:
            return cls(**json.loads((folder / f"report-{number}").read_text()))
        except OSError:
            return None

    @property
    def is_consequence(self) -> bool:
        """Whether it only tells that another rank is lost."""
        return self.type == RankLostError.__name__

    def as_error(self) -> VitxError:
        """Return the end of the run that it stands for."""
        error: VitxError = getattr(errors, self.type)(self.text)
        return error


class Supervisor:
    """Waits for ranks. Entered, it passes signals on to them; left, none of them is alive.

    The first request to stop is theirs to carry out; a second one ends them all at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ranks: list[Rank] = []
        self._asked: list[signal.Signals] = []
        self._asked_at = float("-inf")
        self._previous: dict[int, Handler] = {}

    def add(self, rank: Rank) -> None:
        """Watch one more."""
        self._ranks.append(rank)

    def __enter__(self) -> Supervisor:
        self._previous = take_over(self._pass_on)
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
        while alive := self._look():
            if len(self._asked) > 1:
                self._kill_all()
                break
            if deadline == float("inf") and any(self._failed(rank) for rank in self._ranks):
                deadline = time.monotonic() + _GRACE_S
            if time.monotonic() > deadline:
                self._give_up(alive)
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
            self._send(rank, number)

    def _send(self, rank: Rank, number: int) -> None:
        if rank.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, number)

    def _look(self) -> list[Rank]:
        """Return the ranks that are alive."""
        for rank in self._ranks:
            if rank.status is None:
                ended, status = os.waitpid(rank.pid, os.WNOHANG)
                if ended:
                    rank.status, rank.ended_at = status, time.time()
        return [rank for rank in self._ranks if rank.status is None]

    def _failed(self, rank: Rank) -> bool:
        """Say whether a rank has ended in a way that the others can't go on from."""
        if rank.status is None:
            return False
        report = Report.read(self._folder, rank.number)
        return report is None or report.kind != "done"

    def _give_up(self, alive: list[Rank]) -> None:
        """End ranks that don't end by themselves, and keep where they stood."""
        for rank in alive:
            rank.given_up = True
            for number in (signal.SIGCONT, DUMP):
                self._send(rank, number)
        time.sleep(_DUMP_S)
        self._kill_all()

    def _kill_all(self) -> None:
        for rank in self._look():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(rank.pid, signal.SIGKILL)
            self._send(rank, signal.SIGKILL)
            _, rank.status = os.waitpid(rank.pid, 0)
            rank.ended_at = time.time()

    def _judge(self) -> None:
        """Raise for what went wrong first; what only followed from it is not told."""
        if len(self._asked) > 1:
            end = end_of(self._asked[0])
            raise end(f"stopped at once by a second {self._asked[-1].name}; nothing was saved")
        reports = [(Report.read(self._folder, rank.number), rank) for rank in self._ranks]
        causes = [
            (report.at, report, rank)
            for report, rank in reports
            if report is not None and report.kind != "done" and not report.is_consequence
        ]
        if causes:
            _, report, rank = min(causes, key=lambda cause: cause[0])
            raise self._of_bug(report, rank) if report.kind == "bug" else report.as_error()
        silent = [rank for report, rank in reports if report is None and not rank.given_up]
        # NCCL aborts a rank that waited in vain for another.
        told = [rank for rank in silent if rank.status != signal.SIGABRT]
        # Woken up for a last word, one that hung may have told a consequence.
        silent = told or [rank for rank in self._ranks if rank.given_up] or silent
        for number in self._asked:
            if any(rank.status == number for rank in silent):
                raise end_of(number)(f"stopped by {number.name} before training began")
        if silent:
            raise self._of_silence(min(silent, key=lambda rank: rank.ended_at))
        for consequence, _ in reports:
            if consequence is not None and consequence.kind != "done":
                raise consequence.as_error()

    def _of_bug(self, report: Report, rank: Rank) -> RankLostError:
        sys.stderr.write(report.text)
        last = report.text.strip().splitlines()[-1]
        return RankLostError(
            f"{self._name(rank)} failed: {last} (its traceback is above); the same command goes "
            "on from the newest checkpoint"
        )

    def _of_silence(self, rank: Rank) -> RankLostError:
        """Return what is said of a rank that left no word."""
        name = self._name(rank)
        again = "the same command goes on from the newest checkpoint"
        if rank.given_up:
            sys.stderr.write(self._output(rank))
            return RankLostError(
                f"{name} kept the others waiting and was given up (where it stood is above); "
                f"runtime.step_timeout_s is how long they wait; {again}"
            )
        code = os.waitstatus_to_exitcode(rank.status or 0)
        if code >= 0:
            sys.stderr.write(self._output(rank))
            return RankLostError(f"{name} ended without a word, exit code {code}; {again}")
        by = signal.Signals(-code).name
        hint = "; out of memory? smaller runtime.micro_batch" if by == "SIGKILL" else ""
        return RankLostError(f"{name} was ended by {by}{hint}; {again}")

    def _name(self, rank: Rank) -> str:
        if len(self._ranks) == 1:
            return f"process {rank.pid}"
        return f"rank {rank.number} (process {rank.pid})"

    def _output(self, rank: Rank) -> str:
        try:
            return (self._folder / f"output-{rank.number}").read_text(errors="replace")
        except OSError:
            return ""
