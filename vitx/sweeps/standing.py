"""Where the jobs of a sweep stand: what its ledger says, beside what their run directories show.

A process that was killed wrote down nothing more, and a run of a sweep can be gone on with by
itself: the directory knows better then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from vitx.errors import UsageError, VitxError
from vitx.loggers.jsonl import read_rows
from vitx.runs import RunDir
from vitx.sweeps.ledger import Entry, Ledger, State

STOPPED = "stopped"
"""What a job that was running is seen as when nobody runs it any more."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a job stands.

    Attributes:
        job: what the ledger says.
        state: as seen: a state of the ledger, or `STOPPED`.
        top1: in percent, where it is finished and has a run of its own.
        step: optimizer steps that are recorded.
        total_steps: of its run.
    """

    job: Entry
    state: str
    top1: float | None = None
    step: int | None = None
    total_steps: int | None = None

    @property
    def code(self) -> int | None:
        """What it ended with; None where it has not ended, or nobody knows."""
        if self.state == State.finished.name:
            return 0
        return self.job.exit_code if self.state == self.job.state.name else None

    @property
    def is_refused(self) -> bool:
        """Whether its settings were refused: the same words are refused in the same way again."""
        return self.state == State.failed.name and self.code == UsageError.exit_code

    def is_due(self, *, failed: bool) -> bool:
        """Whether it is run when its sweep goes on; `failed`: also where it was refused."""
        return self.state != State.finished.name and (failed or not self.is_refused)


def look(ledger: Ledger, *, held: bool | None = None) -> list[Standing]:
    """Return where each job of a sweep stands.

    Args:
        ledger: of the sweep.
        held: whether another process carries the sweep out; None has a look.

    Returns:
        By number.

    Raises:
        StorageError: the ledger is missing or damaged.
    """
    carried_out = ledger.is_held() if held is None else held
    return [_look_at(job, ledger, carried_out) for job in ledger.read().jobs]


def _look_at(job: Entry, ledger: Ledger, carried_out: bool) -> Standing:
    run = job.run_in(ledger.folder)
    state = _seen(job, run, carried_out)
    if run is None:
        return Standing(job=job, state=state)
    top1 = _top1(run) if state == State.finished.name else None
    step, total_steps = _steps(run)
    return Standing(job=job, state=state, top1=top1, step=step, total_steps=total_steps)


def _seen(job: Entry, run: RunDir | None, carried_out: bool) -> str:
    # A directory elsewhere, of `run_dir=a,b`, may hold what this sweep has no part in.
    own = run is not None and not os.path.isabs(job.run_dir or "")
    if run is not None and (own or job.state is State.running) and run.is_held():
        return State.running.name
    if run is not None and own and run.result.is_file():
        return State.finished.name
    if job.state is State.running and not carried_out:
        return STOPPED
    return job.state.name


def _top1(run: RunDir) -> float | None:
    try:
        return float(run.read_result()["top1"])
    except VitxError:
        return None  # moved away or damaged: the other jobs are shown all the same


def _steps(run: RunDir) -> tuple[int | None, int | None]:
    try:
        rows = read_rows(run.metrics)
        total = run.read_record().get("total_steps")
    except (VitxError, OSError):
        return None, None
    return (int(rows[-1]["step"]) if rows else 0), total if isinstance(total, int) else None
