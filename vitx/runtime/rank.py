"""A process of a run as its supervisor sees it, and what it says of its end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass

from vitx import errors
from vitx.errors import RankLostError, VitxError
from vitx.runtime.memory_file import MemoryFile


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do where a rank was lost.

    Attributes:
        again: how to go on.
        given_up: which setting a rank that hung has reached; empty where there is none.
    """

    again: str
    given_up: str = ""


TRAINING = Advice(
    again="the same command goes on from the newest checkpoint",
    given_up="runtime.step_timeout_s is how long that may last; ",
)
OTHERWISE = Advice(again="type the same again")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a rank says of its end.

    Attributes:
        kind: done, error (explained by one line), or bug.
        type: class of the error.
        text: the line; of a bug what was raised, in one line.
        trace: the traceback of a bug.
        at: time of it, in seconds.
    """

    kind: str
    at: float
    type: str = ""
    text: str = ""
    trace: str = ""

    @classmethod
    def done(cls) -> Report:
        """It ended well."""
        return cls(kind="done", at=time.time())

    @classmethod
    def error(cls, error: VitxError) -> Report:
        """It ended as `error` says."""
        return cls(kind="error", type=type(error).__name__, text=str(error), at=time.time())

    @classmethod
    def bug(cls, error: BaseException) -> Report:
        """It met a bug."""
        # CUDA's errors have hints for the developer of a kernel below the first line.
        line = traceback.format_exception_only(error)[-1].strip().partition("\n")[0]
        trace = "".join(traceback.format_exception(error))
        return cls(kind="bug", text=line, trace=trace, at=time.time())

    @property
    def is_consequence(self) -> bool:
        """Whether it only tells that another rank is lost."""
        return self.type == RankLostError.__name__

    def as_error(self) -> VitxError:
        """Return the end of the run that it stands for."""
        error: VitxError = getattr(errors, self.type)(self.text)
        return error


@dataclass(kw_only=True)
class Rank:
    """A process of a run.

    Attributes:
        name: what lines for the user call it, but for its id.
        advice: what they say to do where it was lost.
        word: where it leaves its report.
        output: where it writes what rank 0 says for all.
        pid: its id once it runs; its process group has the same.
        status: its wait status once it has ended.
        ended_at: time of that, in seconds.
        is_stopped: a signal has it stand still.
        given_up: why the supervisor ended it; empty where it did not.
    """

    name: str
    advice: Advice
    word: MemoryFile
    output: MemoryFile
    pid: int = 0
    status: int | None = None
    ended_at: float = 0.0
    is_stopped: bool = False
    given_up: str = ""

    def leave(self, report: Report) -> None:
        """Leave word for the supervisor, from inside the rank."""
        self.word.write(json.dumps(asdict(report)))

    @property
    def report(self) -> Report | None:
        """What it left; None where it left nothing."""
        try:
            return Report(**json.loads(self.word.read()))
        except ValueError:  # not even half of it says how it ended
            return None

    @property
    def has_failed(self) -> bool:
        """Whether it has ended in a way that others can't go on from."""
        report = self.report
        return self.status is not None and (report is None or report.kind != "done")

    def look(self) -> bool:
        """Notice what has become of it, and say whether it is alive."""
        if self.status is None:
            changed, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if changed and (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
                self.is_stopped = os.WIFSTOPPED(status)
            elif changed:
                self._note_end(status)
        return self.status is None

    def send(self, number: int) -> None:
        """Send it a signal, if it is alive."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def send_group(self, number: int) -> None:
        """Send it and its loader processes a signal, if it is alive."""
        if self.status is None:
            with suppress(ProcessLookupError, PermissionError):  # it may have no group yet
                os.killpg(self.pid, number)
            self.send(number)

    def kill(self) -> None:
        """End it and its loader processes at once, if it is alive."""
        if self.look():
            self.send_group(signal.SIGKILL)
            self._note_end(os.waitpid(self.pid, 0)[1])

    def of_bug(self, report: Report) -> RankLostError:
        """Return what is said of a bug it met; the traceback is written."""
        sys.stderr.write(report.trace)
        return RankLostError(
            f"{self._full_name} failed: {report.text} (its traceback is above); {self.advice.again}"
        )

    def of_silence(self) -> RankLostError:
        """Return what is said where it left no word; what it wrote is written."""
        if self.given_up:
            sys.stderr.write(self.output.read())
            return RankLostError(
                f"{self._full_name} {self.given_up} and was given up (where it stood is above); "
                f"{self.advice.given_up}{self.advice.again}"
            )
        code = os.waitstatus_to_exitcode(self.status or 0)
        if code >= 0:
            sys.stderr.write(self.output.read())
            return RankLostError(
                f"{self._full_name} ended without a word, exit code {code}; {self.advice.again}"
            )
        by = signal.Signals(-code).name
        hint = "; out of memory? smaller runtime.micro_batch" if by == "SIGKILL" else ""
        return RankLostError(f"{self._full_name} was ended by {by}{hint}; {self.advice.again}")

    @property
    def _full_name(self) -> str:
        return f"{self.name} (process {self.pid})" if self.name else f"process {self.pid}"

    def _note_end(self, status: int) -> None:
        self.status, self.ended_at = status, time.time()
