"""The jobs of a sweep carried out, kept in its ledger, and what the sweep ends with."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vitx.commands.job import Job
from vitx.commands.sweep_plan import Again, Compose, Plan
from vitx.errors import (
    Interrupted,
    Paused,
    Preempted,
    StorageError,
    SweepError,
    VitxError,
    as_request,
    as_storage_error,
)
from vitx.paths import sweeps_dir
from vitx.redaction import redacted, shown
from vitx.runs import now
from vitx.runtime.launch import standing
from vitx.sweeps.folder import new_folder
from vitx.sweeps.ledger import Entry, Ledger, State

Task = Callable[[DictConfig, Job], str]


class Sweeping:
    """A sweep while it is carried out: conducts Hydra's sweeper, and carries out its jobs.

    A launcher may carry jobs out in processes of its own, each with a copy of this object: what
    they share is the ledger.

    Attributes:
        sent: whether this is such a copy.
    """

    def __init__(
        self,
        plan: Plan,
        task: Task,
        *,
        again: Again | None,
    ) -> None:
        self._plan, self._task, self._again = plan, task, again
        self._ledger: Ledger | None = again.ledger if again else None
        self._stopped: VitxError | None = None
        self._said: set[int] = set()
        self.sent = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"sent": True}

    @property
    def ledger(self) -> Ledger:
        """The ledger; there is one once the folder of the sweep is known."""
        assert self._ledger is not None  # noqa: S101 (see above)
        return self._ledger

    def claim(self, folder: Path, *, typed: bool) -> Path:
        """Return the folder of the sweep: a new one, where vitx named it after the time.

        Raises:
            StorageError: it can't be made.
        """
        if typed or not _leads() or folder.parent != sweeps_dir():
            return folder
        return new_folder(folder)

    def jobs(self, folder: Path, expanded: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        """Return the jobs of the sweep: those of its ledger, where it has been begun already.

        Raises:
            StorageError: the folder holds another sweep.
        """
        if self._ledger is None:
            self._ledger = Ledger(folder, kept=_leads())
        if not (_leads() and self.ledger.exists()):
            return expanded
        sweep = self.ledger.read()
        known = [job.overrides for job in sweep.jobs]
        if self._again is None:  # typed once more, with hydra.sweep.dir: it goes on
            same = [tuple(map(redacted, job)) for job in expanded] == known
            if sweep.verb != self._plan.verb or not same:
                raise StorageError(
                    f"{folder} holds another sweep; choose another hydra.sweep.dir, or go on with "
                    f"it: vitx sweep resume {folder}"
                )
            self._again = Again(ledger=self.ledger, failed=True)
            return expanded
        return known

    @contextmanager
    def begun(
        self,
        folder: Path,
        jobs: Sequence[Sequence[str]],
        compose: Compose,
    ) -> Iterator[Sequence[int]]:
        """Hold the sweep, with every job in its ledger.

        Yields:
            The numbers of the jobs that are to be run.

        Raises:
            RunInUseError: another process carries it out.
            StorageError: the ledger can't be written, or one of its jobs has another directory now.
        """
        if not _leads():
            self.ledger.begin(self._plan.described(folder, jobs, compose))
            yield range(len(jobs))
            return
        if self._again is not None:
            with self.ledger.locked():
                yield self._plan.gone_on_with(self._again, compose)
            return
        try:
            sweep = self._plan.described(folder, jobs, compose)
        except BaseException:
            with contextlib.suppress(OSError):  # it was there before, and holds something
                folder.rmdir()
            raise
        with self.ledger.locked():
            if self.ledger.exists():  # somebody was faster
                raise StorageError(f"{folder} holds another sweep; choose another hydra.sweep.dir")
            self.ledger.begin(sweep)
            yield range(len(jobs))

    def carry_out(self, config: DictConfig, job: Job) -> None:
        """Carry out one job; an error of it is kept, since Hydra would print it in its own way."""
        if self._stopped:
            return
        before = self.ledger.known(job.number).started
        self._note(
            job,
            state=State.running,
            started=before or now(),
            **dict.fromkeys(("exit_code", "outcome", "error", "ended")),
        )
        try:
            outcome = self._task(config, job)
        except KeyboardInterrupt as error:
            self._end_badly(job, as_request(error) or Interrupted("interrupted"))
        except SystemExit:  # a launcher sends it back into its queue
            self._note(job, state=State.waiting)
            raise
        except Exception as error:  # noqa: BLE001 (every one of them is said and written down)
            self._end_badly(job, error)
        else:
            self._note(job, state=State.finished, exit_code=0, outcome=outcome, ended=now())

    def conclude(self) -> None:
        """Say how the jobs ended, and end the sweep as they did.

        Raises:
            SweepError: some failed.
            VitxError: a request to stop ended it, or `stop_at` its jobs.
        """
        jobs = self.ledger.jobs()
        lines = (f"{job.number:>3}  {job.label}  {_ended(job)}" for job in jobs)
        print(shown("\n".join(["", f"sweep of {len(jobs)} jobs", *lines])))
        if self._stopped:
            raise self._stopped
        if failed := [job for job in jobs if job.state is State.failed]:
            text = f"{len(failed)} of {len(jobs)} jobs failed"
            elsewhere = (job for job in failed if job.number not in self._said)
            told = next((f"; job {job.number} ({job.label}): {job.error}" for job in elsewhere), "")
            raise SweepError(text + told)
        if lost := [job for job in jobs if job.state in (State.running, State.waiting)]:
            raise SweepError(f"{len(lost)} of {len(jobs)} jobs ended without a word")
        for job in jobs:
            if job.state is State.preempted:
                by_user = job.exit_code == Interrupted.exit_code
                raise (Interrupted if by_user else Preempted)(job.error or "stopped")

    def _end_badly(self, job: Job, error: Exception) -> None:
        stops = isinstance(error, (Interrupted, Preempted))
        if stops and not isinstance(error, Paused):  # `stop_at` is for each, this is for all
            self._stopped = error if isinstance(error, VitxError) else None
        if not isinstance(error, VitxError):
            sys.stderr.write(shown("".join(traceback.format_exception(error))))
        outcome = str(error) if stops else f"failed: {error}"
        self._say(f"job {job.number} ({job.label}) {outcome}")
        self._said.add(job.number)
        known = error if isinstance(error, VitxError) else as_storage_error(error)
        written = self._note(
            job,
            state=State.preempted if stops else State.failed,
            exit_code=known.exit_code if known else 1,
            error=str(error),
            ended=now(),
        )
        if self.sent and (self._stopped or not written):
            raise error  # the launcher takes it back to where it was typed
        _let_go(error)

    def _note(self, job: Job, **changes: Any) -> bool:
        """Write down how a job stands; a ledger that can't be written is no reason to stop.

        Returns:
            Whether it was written.
        """
        try:
            self.ledger.note(job.number, **changes)
        except StorageError as error:
            self._say(str(error))
            return False
        return True

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{shown(f'vitx {self._plan.verb}: {text}')}\n")


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of a job's error hold: the model, and a GPU's memory with it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _leads() -> bool:
    """Say whether this process writes: of those that torchrun started, the first one does."""
    return standing() in (None, 0)


def _ended(job: Entry) -> str:
    match job.state:
        case State.finished:
            return job.outcome or "finished"
        case State.failed:
            return f"failed: {job.error}"
        case State.preempted:
            return job.error or "stopped"
        case State.waiting:
            return "not begun"
        case State.running:
            return "ended without a word"
