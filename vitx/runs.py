"""The run directory: its names, making one, locking it, reading it. A public contract.

runs/<name>/
  config.yaml       the resolved configuration
  run.json          what ran, where, how it ended
  metrics.jsonl     one object a line
  result.json       the final numbers
  checkpoints/step-00000123/
  eval/<suite>.json, <suite>.parquet
  log.txt

runs/sweeps/<time>/
  sweep.json        the jobs of a sweep: settings, directory, and how each ended
  <number>-<settings>/  a run each
"""

from __future__ import annotations

import datetime
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitx.errors import RunInUseError, StorageError, UsageError
from vitx.files import read_json, storage_errors, writable_place, write_json
from vitx.foreign_run import (
    check_record,
    check_result,
    refuse_other_bytes,
    refuse_strange_entries,
)
from vitx.paths import runs_dir

if TYPE_CHECKING:
    from filelock import BaseFileLock

SCHEMA = 1
PRIVATE = 0o700
"""Mode of a directory that vitx makes for a run: whoever wants to share it widens it."""


class RunDir:
    """The paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.evaluations = path / "eval"
        self.log = path / "log.txt"
        self._owner = path / ".owner.json"

    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.config.is_file()

    def evaluation(self, suite: str | None) -> Path:
        """Return the file of a result; that on the run's own validation split is `val`."""
        return self.evaluations / f"{suite or 'val'}.json"

    def is_trained(self) -> bool:
        """Whether a training step has been recorded or saved here."""
        rows = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return rows or self.checkpoints.exists()

    def make(self) -> None:
        """Make the directory and prove that it can be written.

        Raises:
            StorageError: it can't be made or written, or holds something that is no run.
        """
        refuse_other_bytes(self.path)
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            self._refuse_strange()
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".probe-") as probe:
                probe.write(b"\0" * 4096)

    def try_make(self) -> Path:
        """Say whether `make` would succeed; nothing is made.

        Returns:
            The nearest directory that exists.

        Raises:
            StorageError: the directory could not be made or written, or holds no run but files.
        """
        refuse_other_bytes(self.path)
        place = writable_place(self.path)
        if place == self.path.absolute():
            self._refuse_strange()
        return place

    def refuse_in_use(self) -> None:
        """Say whether `locked` would succeed.

        Raises:
            RunInUseError: another process holds the directory.
        """
        if (self.path / ".lock").exists():
            self._take_lock().release()

    def is_held(self) -> bool:
        """Whether another process holds the directory; one that begins is not disturbed."""
        try:
            owner = read_json(self._owner)
            if owner.get("host") == socket.gethostname():
                os.kill(int(owner["pid"]), 0)
            self.refuse_in_use()
        except RunInUseError:
            return True
        except PermissionError:  # it is there, and somebody else's
            return True
        except (StorageError, OSError, LookupError, TypeError, ValueError, OverflowError):
            return False  # nobody says so, or whoever did is gone
        return False

    def _refuse_strange(self) -> None:
        refuse_strange_entries(self.path)
        if not self.exists() and any(
            not entry.name.startswith(".") for entry in self.path.iterdir()
        ):
            raise StorageError(f"{self.path} holds files but no run; choose another run_dir")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for writing.

        Raises:
            RunInUseError: another process holds it.
        """
        lock = self._take_lock()
        try:
            write_json(
                self._owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
            )
            yield
        finally:
            with suppress(OSError):  # how it went is not hidden by it
                self._owner.unlink(missing_ok=True)
            lock.release()

    def read_record(self) -> dict[str, Any]:
        """Return run.json.

        Raises:
            StorageError: it is missing or damaged.
        """
        record = read_json(self.record)
        check_record(record, self.record)
        return record

    def read_result(self) -> dict[str, Any]:
        """Return result.json.

        Raises:
            StorageError: it is missing or damaged.
        """
        result = read_json(self.result)
        check_result(result, self.result)
        return result

    def _take_lock(self) -> BaseFileLock:
        # The W&B mirror's process reads this module with the standard library alone.
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=0)
        with storage_errors(self.path):
            try:  # inside: a Timeout of filelock is an OSError
                lock.acquire()
            except Timeout:
                raise RunInUseError(f"{self.path} is in use by {self._owner_name()}") from None
        return lock

    def _owner_name(self) -> str:
        try:
            owner = read_json(self._owner)
        except StorageError:
            return "another process"
        return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"


def new_run_dir(name: str) -> RunDir:
    """Make a directory of that name, or of that name and a number, that is not there yet."""
    while True:
        run = free_run_dir(name)
        with storage_errors(run.path):
            try:
                run.path.mkdir(parents=True, mode=PRIVATE)
            except FileExistsError:
                if run.path.is_dir():  # another one was faster
                    continue
                raise
        return run


def free_run_dir(name: str) -> RunDir:
    """Return what `new_run_dir` would make.

    Raises:
        StorageError: there are thousands of that name, or it can't be one.
    """
    for number in range(1, 10_000):
        path = runs_dir() / (name if number == 1 else f"{name}-{number}")
        with storage_errors(path):
            if not path.is_symlink() and not path.exists():
                return RunDir(path)
    raise StorageError(f"{runs_dir()} holds 10,000 runs named {name}")


def check_name(name: str) -> str:
    """Return a run's name if it stays inside the folder of runs.

    Raises:
        UsageError: it is empty, hidden, or has a separator or control character.
    """
    if not name or name.startswith(".") or "/" in name or os.sep in name or not name.isprintable():
        raise UsageError(f"name={name!r}: expected a plain file name; run_dir=PATH takes a path")
    return name


def find_run(path: str | None) -> RunDir:
    """Return the run at a path, or the newest one.

    Raises:
        UsageError: there is none.
    """
    if path is not None:
        run = RunDir(Path(path))
        if not run.exists():
            raise UsageError(f"run={path}: no run there (no {run.config.name})")
        refuse_strange_entries(run.path)
        return run
    started = [
        (str(read_json(record).get("started", "")), record.parent)
        for record in runs_dir().glob("**/run.json")
        if record.parent.parent != teachers_dir()  # they were made for others
    ]
    if not started:
        raise UsageError(f"no run in {runs_dir()}; train one, or give run=PATH")
    newest = RunDir(max(started)[1])
    refuse_strange_entries(newest.path)
    return newest


def teachers_dir() -> Path:
    """Return the folder of the teachers that were trained for a student."""
    return runs_dir() / "teachers"


def classes_of(weights: Path) -> list[str] | None:
    """Return the class names that a run's weights were trained for; None where no run tells."""
    if len(weights.parents) > 2 and weights.parents[1].name == "checkpoints":
        record = weights.parents[2] / "run.json"
        if record.is_file():
            found: list[str] | None = RunDir(record.parent).read_record().get("classes")
            return found
    return None


def now() -> str:
    """Return the time in UTC to the microsecond, as in run.json; sorts as text."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
