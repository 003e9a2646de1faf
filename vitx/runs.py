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
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from vitx.errors import StorageError, UsageError
from vitx.files import prove_writable, read_json, storage_errors, writable_place
from vitx.folders import make_folder, remove_empty
from vitx.foreign_run import (
    check_record,
    check_result,
    refuse_other_bytes,
    refuse_strange_entries,
)
from vitx.lock import NAME, OWNER, Lock
from vitx.paths import runs_dir

SCHEMA = 1
PRIVATE = 0o700
"""Mode of a directory that vitx makes for a run: whoever wants to share it widens it."""
_WITHOUT_RECORD = (
    "restore it, or delete it and type the same again: when the run began and what its steps so "
    "far were computed with is lost then, and exact.resume becomes false"
)
_WITHOUT_RESULT = (
    "delete it, and the command that trained the run writes it again from the newest checkpoint"
)


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
        self.mirror = path / "wandb"
        self._lock = Lock(path)

    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.config.is_file()

    def evaluation(self, suite: str) -> Path:
        """Return the file of a result; that on the run's own validation split is `val`."""
        return self.evaluations / f"{suite}.json"

    def is_trained(self) -> bool:
        """Whether a training step has been recorded or saved here."""
        rows = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return rows or self.checkpoints.exists()

    def make(self) -> tuple[Path, ...]:
        """Make the directory and prove that it can be written.

        Returns:
            It and what was made above it, innermost first; nothing where it was there before.

        Raises:
            StorageError: it can't be made or written, or holds something that is no run.
        """
        refuse_other_bytes(self.path)
        with storage_errors(self.path):
            made = make_folder(self.path, mode=PRIVATE)
            self._refuse_strange()
            with ExitStack() as undone:
                undone.callback(remove_empty, made)
                for folder in (self.path, self.checkpoints):
                    if folder.is_dir():
                        prove_writable(folder)
                undone.pop_all()
        return made

    def take_back(self, made: Sequence[Path]) -> None:
        """Remove a run that never trained: what vitx writes, and nothing else.

        Only the holder of the lock may call this.

        Args:
            made: as `make` returned it; of these, what is empty then goes too.
        """
        for path in (self.checkpoints, self.evaluations, self.mirror):
            shutil.rmtree(path, ignore_errors=True)
        files = (self.config, self.record, self.metrics, self.result, self.log)
        with suppress(OSError):  # why it was refused is not hidden by it
            for path in (*files, self.path / OWNER, self.path / NAME):
                path.unlink(missing_ok=True)
        remove_empty(made)

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
        self._lock.refuse_in_use()

    def is_held(self) -> bool:
        """Whether another process holds the directory; one that begins is not disturbed."""
        return self._lock.is_held()

    def locked(self) -> AbstractContextManager[None]:
        """Return what holds the directory for writing while it is entered.

        Raises:
            RunInUseError: another process holds it, at entering.
        """
        return self._lock.held(since=now())

    def _refuse_strange(self) -> None:
        refuse_strange_entries(self.path)
        self.refuse_headless()
        if not self.exists() and any(
            not entry.name.startswith(".") for entry in self.path.iterdir()
        ):
            raise StorageError(f"{self.path} holds files but no run; choose another run_dir")

    def refuse_headless(self) -> None:
        """Refuse a run that has lost its configuration: nothing says what its checkpoints are of.

        Raises:
            StorageError: there are checkpoints and no config.yaml.
        """
        if not self.exists() and any(self.checkpoints.glob("step-*")):
            raise StorageError(
                f"{self.path} has checkpoints and no {self.config.name}; restore it, or choose "
                "another run_dir"
            )

    def read_record(self) -> dict[str, Any]:
        """Return run.json.

        Raises:
            StorageError: it is missing or damaged.
        """
        with _remedy(_WITHOUT_RECORD):
            record = read_json(self.record)
            check_record(record, self.record)
        return record

    def known_record(self) -> dict[str, Any]:
        """Return run.json; nothing where it is missing, which a run can do without.

        Raises:
            StorageError: it is damaged.
        """
        return self.read_record() if self.record.is_file() else {}

    def read_result(self) -> dict[str, Any]:
        """Return result.json.

        Raises:
            StorageError: it is missing or damaged.
        """
        with _remedy(_WITHOUT_RESULT):
            result = read_json(self.result)
            check_result(result, self.result)
        return result


@contextmanager
def _remedy(what: str) -> Iterator[None]:
    """Say what helps where a file can't be read."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; {what}") from error


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
        StorageError: it has lost its configuration, or holds what no run does.
        UsageError: there is none.
    """
    if path is not None:
        run = RunDir(Path(path))
        run.refuse_headless()
        if not run.exists():
            raise UsageError(f"run={path}: no run there (no {run.config.name})")
        refuse_strange_entries(run.path)
        return run
    started = [
        (str(RunDir(record.parent).read_record().get("started", "")), record.parent)
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
