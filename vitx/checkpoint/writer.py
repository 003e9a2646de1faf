"""Commits snapshots beside training: a step is held for a copy in memory and for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import commit, path_of, prune, read_state, steps_in
from vitx.errors import StorageError

MOST_MISSES = 3
RETRY_AFTER_S = (1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A snapshot that is to be committed.

    Attributes:
        snapshot: a copy that nobody changes.
        best_step: the best step when it was taken; its checkpoint is never pruned.
    """

    snapshot: Snapshot
    best_step: int | None

    def is_due_beside(self, newer: Due) -> bool:
        """Say whether it has to be committed though a newer one waits: the best step has."""
        return self.snapshot.step == newer.best_step != newer.snapshot.step


class Writer:
    """Commits and prunes in one thread, one snapshot at a time, in the order of their steps.

    Who hands a snapshot over never waits for the disk. While one is written the newest waits; it
    takes the place of older ones, but for that of the best step. So host memory holds one copy
    of the run as a rule, and three at most.

    A write that fails is a miss: it leaves earlier checkpoints as they were, and is tried again
    with the next that is due.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        is_due: Callable[[int], bool],
        before_commit: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Start no thread before there is something to write.

        Args:
            folder: the run's folder of checkpoints.
            keep: how many of the newest stay.
            is_due: whether a step is saved even if nobody asks the run to stop.
            before_commit: makes durable what a checkpoint relies on; called in the thread.
            say: told of every miss; called by who calls this object's methods.
        """
        self._folder, self._keep, self._is_due = folder, keep, is_due
        self._before_commit, self._say = before_commit, say
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._round: Future[None] | None = None
        # What both threads touch, and the lock that they hold meanwhile.
        self._lock = threading.Lock()
        self._waiting: list[Due] = []
        self._spare: Snapshot | None = None
        self._writing = self._asked = False
        self._error: StorageError | None = None  # of the newest write; None where it succeeded
        self._misses = 0
        self._missed: list[str] = []  # lines that were not said yet

    def hand_over(self, snapshot: Snapshot, *, best_step: int | None) -> None:
        """Copy a snapshot and have it committed soon; training may go on when this returns."""
        with self._lock:
            spare, self._spare = self._spare, None
        due = Due(snapshot=snapshot.copied(into=spare), best_step=best_step)
        with self._lock:
            self._waiting = [each for each in self._waiting if each.is_due_beside(due)] + [due]
        self._begin()

    def report(self) -> None:
        """Say what was missed since the last call.

        Raises:
            StorageError: too many in a row were missed.
        """
        with self._lock:
            misses, error = self._misses, self._error
            if misses >= MOST_MISSES:
                self._missed = self._missed[:-1]  # the error says it
        self._tell("training goes on, and the next one that is due is tried")
        if self._round is not None and self._round.done():
            self._round.result()  # a bug in the thread is one here
        if misses >= MOST_MISSES:
            raise StorageError(
                f"{misses} checkpoints in a row were missed, {self._kept()}; the last: {error}"
            )

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._round is not None:
            self._round.result()

    def finish(self) -> None:
        """Wait until all is committed; what fails is tried again after 1, 2 and 4 seconds.

        Raises:
            StorageError: it fails still.
        """
        self.wait()
        for pause_s in RETRY_AFTER_S:
            if self._error is None:
                break
            self._tell(f"trying again in {pause_s:g} s")
            time.sleep(pause_s)
            self._begin()
            self.wait()
        if self._error is not None:
            self._missed.clear()  # the error says it
            raise self._error
        self._tell("a newer one is saved")

    def close(self) -> None:
        """End the thread when it has tried what waits; how training ended is not hidden by it."""
        self._thread.shutdown(wait=True)
        self._tell("it is not tried again")

    def _begin(self) -> None:
        with self._lock:
            self._asked = True
            if not self._writing:
                self._writing = True
                self._round = self._thread.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        while (due := self._next()) is not None:
            try:
                self._write(due)
            except StorageError as error:
                self._note_miss(due, error)
            else:
                self._note_written(due)

    def _next(self) -> Due | None:
        with self._lock:
            # After a miss nothing is tried until somebody asks again.
            if not self._waiting or (self._error is not None and not self._asked):
                self._writing = False
                return None
            self._asked = False
            return self._waiting.pop(0)

    def _write(self, due: Due) -> None:
        snapshot = due.snapshot
        # The rows up to this step have to be as durable as the checkpoint.
        self._before_commit()
        # What an interruption left undone at this step may have been done since it was saved.
        saved = snapshot.step in steps_in(self._folder)
        if not saved or read_state(self._folder, snapshot.step) != snapshot.state:
            commit(self._folder, snapshot)
        also = set() if due.best_step is None else {due.best_step}
        prune(self._folder, keep=self._keep, also=also, is_due=self._is_due)

    def _note_written(self, due: Due) -> None:
        with self._lock:
            self._spare, self._error, self._misses = due.snapshot, None, 0

    def _note_miss(self, due: Due, error: StorageError) -> None:
        line = f"warning: {error}; {self._kept()}"
        with self._lock:
            self._error = error
            self._misses += 1
            if not self._waiting or due.is_due_beside(self._waiting[-1]):
                self._waiting.insert(0, due)
            self._missed.append(line)

    def _kept(self) -> str:
        names = [path_of(self._folder, step).name for step in steps_in(self._folder)]
        return f"kept: {', '.join(names) or 'none yet'}"

    def _tell(self, consequence: str) -> None:
        with self._lock:
            lines, self._missed = self._missed, []
        for line in lines:
            self._say(f"{line}; {consequence}")
