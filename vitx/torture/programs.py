"""`vitx` as processes that signals can be sent to, and files that hold them up."""

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
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

from vitx.torture.verdicts import Broken, Lacking, demand

PATIENCE_S = 60.0
GONE_WITHIN_S = 5.0  # whoever a program started, once it has ended
RESTS_S = 0.2  # without a moment on a processor, and not for lack of one


class Program:
    """One `vitx` process, leader of a session of its own."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output
        self.code: int | None = None

    @property
    def text(self) -> str:
        """What it wrote to stdout and stderr."""
        if not self._output.exists():
            return ""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def last_line(self) -> str:
        """The last line that it wrote."""
        return (self.text.splitlines() or [""])[-1]

    def running(self) -> bool:
        """Say whether it has not ended."""
        if self.code is None:
            self.code = cast("int | None", fork_server().ask({"wait": self.pid}))
        return self.code is None

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit code; that of a signal is negative.

        Raises:
            Broken: it has none in time.
        """
        until(lambda: not self.running(), timeout_s, what=f"the end of vitx:\n{self.text}")
        return cast("int", self.code)

    def reaches(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait until something is true of the running program.

        Raises:
            Broken: it ended before, or it takes too long.
        """
        until(lambda: condition() or not self.running(), what=what)
        demand(self.running(), f"a running program with {what}", f"its end:\n{self.text}")

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

    def children(self) -> list[int]:
        """Return the ids of those that it started: ranks, or loaders, in their order."""
        folder = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return sorted(map(int, folder.read_text().split()))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send it to the loader processes too, as a terminal does with Ctrl-C."""
        os.killpg(self.pid, number)

    def leaves_nothing(self) -> None:
        """Wait until nobody of its session is there.

        Raises:
            Broken: somebody stays.
        """
        until(lambda: not self.session(), GONE_WITHIN_S, what="the end of all processes")

    def session(self) -> set[int]:
        """Return the live processes of its session: itself and what it left or has."""
        return {pid for pid, _, session in live_processes() if session == self.pid}


def places() -> str:
    """Return the folders that this process imports from, as PYTHONPATH has them."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


class ForkServer:
    """The process that forks programs; it ends when this one does, and they with it."""

    def __init__(self) -> None:
        # A fixed program. In a session of its own: a Ctrl-C is not for it. -P keeps files of the
        # working directory from being taken for libraries.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-W", "ignore", "-m", "vitx.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": places()},
            start_new_session=True,
        )
        self._turn = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> int | str | None:
        """Return the answer to a request."""
        to, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        with self._turn:
            to.write(json.dumps(request) + "\n")
            to.flush()
            answer: int | str | None = json.loads(answers.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@functools.cache
def fork_server() -> ForkServer:
    """Return the one server of this process."""
    return ForkServer()


class Programs:
    """Starts programs in one folder and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Program] = []

    def __call__(
        self,
        *args: str,
        stopped: bool = False,
        apart: Mapping[str, Any] = MappingProxyType({}),
        **env: str,
    ) -> Program:
        """Start `vitx` with these words; its runs go to the folder unless they say otherwise.

        Args:
            args: the words.
            stopped: wait for SIGCONT before anything else.
            apart: what it does not share with others, as `namespaces.leave` has it.
            env: variables of its environment.

        Returns:
            The program, which runs.

        Raises:
            Lacking: there is no right to set it apart.
        """
        output = self._folder / f"output-{len(self._started)}.txt"
        request = {
            "args": args,
            "cwd": str(self._folder),
            "env": {"VITX_RUNS": str(self._folder / "runs")} | env,
            "output": str(output),
            "stopped": stopped,
            "apart": dict(apart),
        }
        answer = fork_server().ask(request)
        if not isinstance(answer, int):
            raise Lacking(str(answer))
        self._started.append(Program(answer, output))
        if stopped:
            until(lambda: (answer, "T", answer) in live_processes(), what="a process that waits")
        return self._started[-1]

    def done(self, *args: str, code: int = 0, **env: str) -> str:
        """Run `vitx` to its end.

        Args:
            args: the words.
            code: the exit code that it has to have.
            env: variables of its environment.

        Returns:
            Its output.

        Raises:
            Broken: it has another exit code.
        """
        program = self(*args, stopped=False, apart={}, **env)
        demand(program.wait() == code, f"exit code {code}", f"{program.code}:\n{program.text}")
        return program.text

    def close(self) -> None:
        """End those that run."""
        for program in self._started:
            for pid in program.session():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.wait()
        self._started.clear()


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S, *, what: str) -> None:
    """Wait until something is true.

    Raises:
        Broken: it takes too long.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"within {timeout_s:g} s {what}", "nothing")
        time.sleep(0.005)


@contextlib.contextmanager
def held(*paths: Path) -> Iterator[Callable[[], bool]]:
    """Keep every other process that opens one of some files waiting, as a slow disk would.

    The kernel does it, by a write lease: an open blocks until the lease is given up.

    Yields:
        A function that says whether somebody waits.

    Raises:
        Lacking: the file system has no leases.
    """
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the kernel asks for a lease back
    files: list[int] = []
    try:
        for path in paths:
            files.append(os.open(path, os.O_RDWR))
            _lease(files[-1], path)
        yield lambda: any(fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK for file in files)
    finally:
        for file in files:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(file)
        signal.signal(signal.SIGIO, before)


def _lease(file: int, path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            return
        except BlockingIOError as error:  # somebody reads it at this moment
            if time.monotonic() > deadline:
                raise Lacking(f"{path} is always open") from error
            time.sleep(0.001)
        except OSError as error:
            raise Lacking(f"no file leases on {path.parent}: {error}") from error


def live_processes() -> Iterator[tuple[int, str, int]]:
    """Yield id, state and session of every process that is not a zombie."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                yield int(folder.name), state, int(session)
