"""Hydra's own sweeper, which says what it is about to run, and runs what it is told to."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vitx.config.quoting import quote
from vitx.errors import Interrupted, Preempted, SweepError, VitxError
from vitx.files import not_for_others, storage_errors
from vitx.redaction import shown
from vitx.sweeps.ledger import WORDS

Overrides = Sequence[str]

_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class Conductor(Protocol):
    """Who decides what a sweep runs, and keeps what becomes of it."""

    def claim(self, folder: Path, *, typed: bool) -> Path:
        """Return the folder of the sweep.

        Args:
            folder: as composed.
            typed: whether it was typed, and is to be that one.
        """
        ...

    def jobs(self, folder: Path, expanded: Sequence[Overrides]) -> Sequence[Overrides]:
        """Return the jobs of the sweep, in the order of their numbers.

        Args:
            folder: of the sweep.
            expanded: what the command line comes to.
        """
        ...

    def begun(
        self, folder: Path, jobs: Sequence[Overrides], compose: Callable[[int], DictConfig]
    ) -> AbstractContextManager[Sequence[int]]:
        """Hold the sweep; entered, it returns the numbers of the jobs to run, ascending.

        Args:
            folder: of the sweep.
            jobs: as of `jobs`.
            compose: returns the configuration of a job, with Hydra's own section.
        """
        ...


@contextmanager
def conducted(conductor: Conductor) -> Iterator[None]:
    """Have the sweeps that Hydra begins meanwhile be conducted.

    Hydra makes its sweeper of the class that its own configuration names, and no other; it loads
    the modules of its plugins once more when it looks for them, so that it is asked for the class.
    """
    sweepers: Any = Plugins.instance().class_name_to_class[_SWEEPER]
    before = sweepers.sweep

    def sweep(sweeper: BasicSweeper, arguments: list[str]) -> None:
        _Conducted(sweeper, conductor).sweep(arguments)

    sweepers.sweep = sweep
    try:
        yield
    finally:
        sweepers.sweep = before


class _Conducted:
    """A sweep of Hydra's sweeper, in which a conductor has the last word."""

    def __init__(self, sweeper: BasicSweeper, conductor: Conductor) -> None:
        context, config, launcher = sweeper.hydra_context, sweeper.config, sweeper.launcher
        assert context and config and launcher  # noqa: S101 (it was set up)
        self._sweeper, self._conductor = sweeper, conductor
        self._config, self._launcher, self._loader = config, launcher, context.config_loader

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs, each under its number, with whatever launcher."""
        folder = self._claimed()
        self._fix(folder)
        jobs = self._conductor.jobs(folder, self._expanded(arguments))
        with self._conductor.begun(folder, jobs, lambda number: self._compose(jobs, number)) as due:
            self._save(folder / WORDS)
            for batch in _batches(due, self._sweeper.max_batch_size):
                self._launch([list(jobs[number]) for number in batch], batch[0])

    def _launch(self, overrides: list[list[str]], first: int) -> None:
        try:
            for returned in self._launcher.launch(overrides, initial_job_idx=first):
                _ = returned.return_value  # raises what a job could not keep to itself
        except (Interrupted, Preempted):
            raise
        except VitxError as failure:
            raise SweepError(f"a job failed: {failure}") from failure
        except Exception as failure:
            if type(self._launcher).__name__ == "BasicLauncher":  # runs the jobs in this process
                raise
            sys.stderr.write(shown("".join(traceback.format_exception(failure))))
            name, folder = type(failure).__name__, self._config.hydra.sweep.dir
            raise SweepError(
                f"the launcher gave up ({name}); vitx sweep resume {folder} runs what is left"
            ) from failure

    def _claimed(self) -> Path:
        words = map(str, self._config.hydra.overrides.hydra)
        typed = any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in words)
        return self._conductor.claim(Path(self._config.hydra.sweep.dir), typed=typed)

    def _expanded(self, arguments: list[str]) -> list[list[str]]:
        further = [f"{name}={value}" for name, value in self._sweeper.params.items()]
        parser = OverridesParser.create(config_loader=self._loader)
        parsed = parser.parse_overrides([*further, *arguments])
        return [job for batch in self._sweeper.split_arguments(parsed, None) for job in batch]

    def _fix(self, folder: Path) -> None:
        """Have every job find the same folder, in whichever process and at whatever time."""
        with read_write(self._config), open_dict(self._config):
            self._config.hydra.sweep.dir = str(folder)
            self._config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quote(str(folder))}")

    def _compose(self, jobs: Sequence[Overrides], number: int) -> DictConfig:
        composed: DictConfig = self._loader.load_sweep_config(self._config, list(jobs[number]))
        with read_write(composed), open_dict(composed):
            composed.hydra.job.num = number
        return composed

    def _save(self, file: Path) -> None:
        """Write down what Hydra composed, once, for owner and group alone."""
        if file.exists():
            return
        with storage_errors(file), open(file, "x", encoding="utf-8", opener=not_for_others) as to:
            OmegaConf.save(self._config, to)


def _batches(numbers: Sequence[int], most: int | None) -> Iterator[list[int]]:
    """Yield runs of consecutive numbers: a launcher numbers its jobs from the first one on.

    >>> list(_batches([1, 2, 3, 6], 2))
    [[1, 2], [3], [6]]
    """
    batch: list[int] = []
    for number in numbers:
        if batch and (number != batch[-1] + 1 or len(batch) == most):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
