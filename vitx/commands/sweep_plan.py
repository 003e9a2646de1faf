"""Which jobs a sweep has, where each has its run, and which of them are still to be run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from vitx.commands.job import Job, job_of
from vitx.errors import StorageError, VitxError
from vitx.redaction import shown
from vitx.runs import now
from vitx.sweeps.ledger import Entry, Ledger, State, Sweep, run_dir_in
from vitx.sweeps.standing import Standing, look

Compose = Callable[[int], DictConfig]
"""Returns the configuration of a job, with Hydra's own section."""
Place = Callable[[DictConfig, Job], Path | None]
"""Returns the run directory of a job; None where it has none, or nobody knows it beforehand."""


@dataclass(frozen=True, kw_only=True)
class Again:
    """A sweep that goes on.

    Attributes:
        ledger: which one.
        failed: whether jobs whose settings were refused are tried again.
    """

    ledger: Ledger
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep comes to before any job of it runs.

    Attributes:
        verb: such as `train`.
        argv: the words behind it, as typed.
        place: says where the run of a job is.
        varied: keys of the settings that the sweep varies.
    """

    verb: str
    argv: tuple[str, ...]
    place: Place
    varied: frozenset[str]

    def described(self, folder: Path, jobs: Sequence[Sequence[str]], compose: Compose) -> Sweep:
        """Return the sweep as it is written down before it begins.

        Args:
            folder: of the sweep.
            jobs: the settings of each.
            compose: see there.

        Returns:
            It, with every job waiting.

        Raises:
            Exception: the configuration of a job can't be composed, so that none is begun.
        """
        entries = []
        for number, overrides in enumerate(jobs):
            config = compose(number)
            job = job_of(config.hydra, self.varied)
            entries.append(
                Entry(
                    number=number,
                    overrides=tuple(overrides),
                    label=job.label,
                    run_dir=self._where(folder, config, job),
                )
            )
        return Sweep(
            verb=self.verb,
            argv=self.argv,
            typed_in=str(Path.cwd()),
            started=now(),
            jobs=tuple(entries),
        )

    def gone_on_with(self, again: Again, compose: Compose) -> list[int]:
        """Write down what was found of each job of a sweep that goes on.

        Args:
            again: that sweep.
            compose: see there.

        Returns:
            The numbers of the jobs that are due, ascending.

        Raises:
            RunInUseError: another process has the run of one.
            StorageError: the ledger can't be read or written, or a job has another directory now.
        """
        ledger = again.ledger
        found = look(ledger, held=False)
        due = [each for each in found if each.is_due(failed=again.failed)]
        for each in due:
            self._refuse_other_place(ledger.folder, each.job, compose)
            if run := each.job.run_in(ledger.folder):
                run.refuse_in_use()
        changed = {each.job.number: _as_found(each) for each in found}
        ledger.begin(ledger.read().with_jobs(changed))
        for each in found:
            if each.is_refused and each not in due:
                line = f"job {each.job.number} ({each.job.label}) was refused and is left out"
                print(shown(f"{line}; failed=true tries it again"))
        return [each.job.number for each in due]

    def _where(self, folder: Path, config: DictConfig, job: Job) -> str | None:
        try:
            run = self.place(config, job)
        except VitxError:
            return None  # it is refused when its turn comes
        return None if run is None else run_dir_in(folder, run)

    def _refuse_other_place(self, folder: Path, entry: Entry, compose: Compose) -> None:
        config = compose(entry.number)
        place = self._where(folder, config, job_of(config.hydra, self.varied))
        if place != entry.run_dir and None not in (place, entry.run_dir):
            raise StorageError(
                f"job {entry.number} has its run in {entry.run_dir}, and would now be in {place}; "
                "go on with it by itself: vitx train resume=DIR"
            )


def _as_found(standing: Standing) -> Entry:
    """Return a job of a sweep that goes on: no longer running, or finished by itself meanwhile."""
    job, seen = standing.job, standing.state
    if seen == job.state.name:
        return job
    if seen == State.finished.name:
        top1 = "" if standing.top1 is None else f"top-1 {standing.top1:.2f} %"
        return dataclasses.replace(job, state=State.finished, exit_code=0, error=None, outcome=top1)
    return dataclasses.replace(job, state=State.waiting)
