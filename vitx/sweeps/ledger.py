"""sweep.json: the jobs of a sweep and how each ended. A public contract, as the run directory is.

It is written before the first job begins, and whenever one changes. Whoever carries a job out
writes, and that may be several processes at a time: each change is read, made and written under a
lock of its own, `.ledger.lock`. The lock of the whole sweep, `.lock`, is held as that of a run is.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vitx.errors import StorageError
from vitx.files import read_json, storage_errors, write_json
from vitx.foreign_run import as_written
from vitx.redaction import redacted
from vitx.runs import PRIVATE, SCHEMA, RunDir

FILE, WORDS = "sweep.json", "multirun.yaml"
VERBS = ("train", "distill", "eval")
"""The verbs that can be swept."""
_TURN_TIMEOUT_S = 60.0  # a change takes milliseconds
_LOCKS = (".lock", ".owner.json", ".ledger.lock")


class State(Enum):
    """What the ledger says of a job."""

    waiting = "waiting"
    running = "running"
    finished = "finished"
    failed = "failed"
    preempted = "preempted"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job of a sweep.

    Attributes:
        number: its place in the sweep, from 0; it never changes.
        overrides: its settings, as Hydra reads them.
        label: those of them that the sweep varies.
        run_dir: where its run is, relative to the sweep's folder if it lies there; None where it
            has none of its own.
        state: how far it is.
        exit_code: what it ended with.
        outcome: what came out, where it finished.
        error: why it ended otherwise.
        started: time at which it was begun first.
        ended: time at which it ended last.
    """

    number: int
    overrides: tuple[str, ...]
    label: str
    run_dir: str | None = None
    state: State = State.waiting
    exit_code: int | None = None
    outcome: str | None = None
    error: str | None = None
    started: str | None = None
    ended: str | None = None

    def run_in(self, folder: Path) -> RunDir | None:
        """Return its run directory; None where it has none of its own."""
        return None if self.run_dir is None else RunDir(folder / self.run_dir)

    def as_plain(self, folder: Path) -> dict[str, Any]:
        """Return it as it stands in the file: without secrets, and with the path of its log."""
        run = self.run_in(folder)
        log = str(Path(self.run_dir or "") / run.log.name) if run and run.log.is_file() else None
        plain = dataclasses.asdict(self) | {"state": self.state.name, "log": log}
        plain["overrides"] = [redacted(word) for word in self.overrides]
        return plain | {
            name: redacted(plain[name])
            for name in ("label", "run_dir", "outcome", "error")
            if plain[name] is not None
        }


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What was asked for, and the jobs that it comes to.

    Attributes:
        verb: such as `train`.
        argv: the words behind it, as typed.
        typed_in: the directory that relative paths among them are relative to.
        started: time at which it was begun first.
        jobs: by number.
    """

    verb: str
    argv: tuple[str, ...]
    typed_in: str
    started: str
    jobs: tuple[Entry, ...]

    def with_jobs(self, changed: Mapping[int, Entry]) -> Sweep:
        """Return it with some jobs changed."""
        jobs = tuple(changed.get(job.number, job) for job in self.jobs)
        return dataclasses.replace(self, jobs=jobs)


class Ledger:
    """The sweep.json of a folder.

    What can't be written, on a disk that is full, is kept and written with the next change. One
    that is not `kept` writes nothing: it is that of a rank beside the first.
    """

    def __init__(self, folder: Path, *, kept: bool = True) -> None:
        self.folder, self.file = folder, folder / FILE
        self._kept = kept
        self._sweep: Sweep | None = None
        self._unsaved: dict[int, Entry] = {}

    def exists(self) -> bool:
        """Whether a sweep has been begun here."""
        return self.file.is_file()

    def locked(self) -> AbstractContextManager[None]:
        """Return what holds the sweep while it is entered; its folder is made.

        Raises:
            RunInUseError: another process does.
            StorageError: its folder can't be made or written, or a lock in it is a link.
        """
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        for name in _LOCKS:  # opened by name: what it leads to would be emptied
            if (self.folder / name).is_symlink():
                raise StorageError(f"{self.folder / name} is a link; remove it")
        return RunDir(self.folder).locked()

    def is_held(self) -> bool:
        """Whether a process is carrying the sweep out."""
        return RunDir(self.folder).is_held()

    def read(self) -> Sweep:
        """Return what the file says.

        Raises:
            StorageError: it is missing or damaged.
        """
        try:
            data = read_json(self.file)
            with as_written(self.file):
                return _sweep_of(data)
        except StorageError as error:
            # Which jobs there are is said by the command that began it, and how far each is by its
            # run directory.
            raise StorageError(
                f"{error}; delete it and type the command of the sweep again (its words are in "
                f"{self.folder / WORDS}) with hydra.sweep.dir={self.folder}: finished runs are "
                "left alone, the others go on"
            ) from error

    def begin(self, sweep: Sweep) -> None:
        """Write down what is about to be carried out.

        Raises:
            StorageError: it can't be written.
        """
        self._sweep = sweep
        if self._kept:
            with self._turn():
                self._write(sweep)

    def note(self, number: int, **changes: Any) -> None:
        """Change what is said of a job; other processes may change others meanwhile.

        Raises:
            StorageError: it can't be written now.
        """
        self._unsaved[number] = dataclasses.replace(self.known(number), **changes)
        if not self._kept:
            return
        with self._turn():
            self._sweep = self.read().with_jobs(self._unsaved)
            self._write(self._sweep)
        self._unsaved.clear()

    def known(self, number: int) -> Entry:
        """Return a job as this process knows it."""
        return self._known().jobs[number]

    def jobs(self) -> tuple[Entry, ...]:
        """Return the jobs as they stand, those that could not be written down as well."""
        try:
            sweep = self.read() if self._kept else self._known()
        except StorageError:  # taken away meanwhile
            sweep = self._known()
        return sweep.with_jobs(self._unsaved).jobs

    def _known(self) -> Sweep:
        return (self._sweep or self.read()).with_jobs(self._unsaved)

    def _write(self, sweep: Sweep) -> None:
        plain = {
            "schema": SCHEMA,
            "verb": sweep.verb,
            "argv": [redacted(word) for word in sweep.argv],
            "typed_in": sweep.typed_in,
            "started": sweep.started,
            "jobs": [job.as_plain(self.folder) for job in sweep.jobs],
        }
        write_json(self.file, plain)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        lock = FileLock(self.folder / _LOCKS[-1], timeout=_TURN_TIMEOUT_S)
        with storage_errors(self.file):
            try:  # inside: a Timeout of filelock is an OSError
                lock.acquire()
            except Timeout:
                raise StorageError(f"{self.file} is kept locked by another process") from None
        try:
            yield
        finally:
            lock.release()


def run_dir_in(folder: Path, run: Path) -> str:
    """Return a run directory as it stands in the ledger of a folder."""
    own, whole = os.path.abspath(folder), os.path.abspath(run)
    inside = os.path.commonpath([own, whole]) == own
    return os.path.relpath(whole, own) if inside else whole


def _sweep_of(data: Mapping[str, Any]) -> Sweep:
    jobs = tuple(_entry_of(number, plain) for number, plain in enumerate(data["jobs"]))
    if data["verb"] not in VERBS:
        raise ValueError(f"verb is {data['verb']!r:.80}")
    return Sweep(
        verb=data["verb"],
        argv=_texts(data["argv"]),
        typed_in=_text(data["typed_in"]),
        started=_text(data["started"]),
        jobs=jobs,
    )


def _entry_of(number: int, plain: Mapping[str, Any]) -> Entry:
    code = plain["exit_code"]
    if plain["number"] != number or not isinstance(code, int | None):
        raise ValueError(f"job {number} has number {plain['number']!r:.80}, code {code!r:.80}")
    if ".." in Path(_text(plain["run_dir"] or "")).parts:
        raise ValueError(f"job {number} leads out of the sweep: {plain['run_dir']!r:.80}")
    told = ("run_dir", "outcome", "error", "started", "ended")
    return Entry(
        number=number,
        overrides=_texts(plain["overrides"]),
        label=_text(plain["label"]),
        state=State[plain["state"]],
        exit_code=code,
        **{name: None if plain[name] is None else _text(plain[name]) for name in told},
    )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"expected a list of texts, got {value!r:.80}")
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r:.80}")
    return value
