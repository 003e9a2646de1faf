"""`vitx` as processes that tests can send signals to, and files that hold them up."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
RESTS_S = 0.2  # without a moment on a processor, and not for lack of one


class Program:
    """One `vitx` process, leader of a session of its own."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output
        self.code: int | None = None

    @property
    def text(self) -> str:
        """What it wrote to stdout and stderr."""
        return self._output.read_text(encoding="utf-8") if self._output.exists() else ""

    def running(self) -> bool:
        if self.code is None:
            self.code = _server().ask({"wait": self.pid})
        return self.code is None

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit code; that of a signal is negative."""
        until(lambda: not self.running(), timeout_s, what=f"the end of vitx:\n{self.text}")
        assert self.code is not None
        return self.code

    def reaches(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait until something is true of the running program."""
        until(lambda: condition() or not self.running(), what=what)
        assert self.running(), f"ended before {what}:\n{self.text}"

    def rests(self) -> None:
        """Wait until its main thread waits for something that others hold up."""

        def used() -> tuple[str, str]:
            folder = Path(f"/proc/{self.pid}")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            return state, (folder / "schedstat").read_text().split()[0]

        def unchanged() -> bool:
            before = used()
            time.sleep(RESTS_S)
            return before == used() and before[0] == "S"

        self.reaches(unchanged, what="a rest")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send it to the loader processes too, as a terminal does with Ctrl-C."""
        os.killpg(self.pid, number)

    def session(self) -> set[int]:
        """Return the live processes of its session: itself and what it left or has."""
        return {pid for pid, _, session in live_processes() if session == self.pid}


class _Server:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.train.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> int | None:
        to, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        to.write(json.dumps(request) + "\n")
        to.flush()
        answer: int | None = json.loads(answers.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def _server() -> _Server:
    return _Server()


class Programs:
    """Starts programs in one folder and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Program] = []

    def __call__(self, *args: str, stopped: bool = False, **env: str) -> Program:
        """Start `vitx` with these words; its runs go to the folder unless they say otherwise.

        Args:
            args: the words.
            stopped: wait for SIGCONT before anything else.
            env: variables of its environment.
        """
        output = self._folder / f"output-{len(self._started)}.txt"
        request = {
            "args": args,
            "cwd": str(self._folder),
            "env": {"VITX_RUNS": str(self._folder / "runs")} | env,
            "output": str(output),
            "stopped": stopped,
        }
        pid = _server().ask(request)
        assert pid is not None
        self._started.append(Program(pid, output))
        if stopped:
            until(lambda: (pid, "T", pid) in live_processes(), what="a process that waits")
        return self._started[-1]

    def done(self, *args: str, code: int = 0, **env: str) -> str:
        """Run `vitx` to its end, which has to have this exit code; return its output."""
        program = self(*args, **env)
        assert program.wait() == code, program.text
        return program.text

    def close(self) -> None:
        for program in self._started:
            for pid in program.session():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.wait()


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S, *, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def held(path: Path) -> Iterator[Callable[[], bool]]:
    """Keep every other process that opens a file waiting, as a slow disk would.

    The kernel does it, by a write lease: an open blocks until the lease is given up.

    Yields:
        A function that says whether somebody waits.
    """
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the kernel asks for the lease back
    file = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"no file leases on {path.parent}: {error}")
        yield lambda: fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK
    finally:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(file)
        signal.signal(signal.SIGIO, before)


def live_processes() -> Iterator[tuple[int, str, int]]:
    """Yield id, state and session of every process that is not a zombie."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                yield int(folder.name), state, int(session)


def words_of(pid: int) -> list[str]:
    """Return the command line of a process; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []
