"""A verb as a Hydra application: composition, `-m`, `--cfg job`, and what a sweep ends with."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vitx.config.jobs import compose_words, label_of, varied_keys
from vitx.config.resolve import dump_yaml, resolve
from vitx.config.store import HYDRA_VERSION_BASE, register
from vitx.config.words import split
from vitx.errors import Interrupted, Paused, Preempted, SweepError, VitxError
from vitx.paths import conf_dir
from vitx.redaction import shown

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What Hydra knows of a job besides its configuration.

    Attributes:
        choices: the option chosen of each group.
        overrides: what was typed.
        sweep_dir: folder of the sweep, or None outside one.
        number: the job's number in its sweep.
        label: the settings that its sweep varies.
        is_part: whether something else that was asked for needs it.
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    sweep_dir: Path | None = None
    number: int = 0
    label: str = ""
    is_part: bool = False


class Jobs:
    """The jobs of one command line, carried out one after the other, and how they ended.

    Attributes:
        sent: whether a launcher sent them here, to another process than that of the command line.
    """

    def __init__(self, verb: str, task: Callable[[Job], str]) -> None:
        self._verb, self._task = verb, task
        self.sent = False
        self.errors: list[Exception] = []
        self.lines: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"sent": True}

    def carry_out(self, job: Job) -> None:
        """Carry out one job; an error of it is kept, since Hydra would print it in its own way."""
        if self.stopped:
            self.lines.append(f"{job.number:>3}  {job.label}  not begun")
            return
        try:
            outcome = self._task(job)
        except Exception as error:  # noqa: BLE001 (every one of them is raised or said later)
            self.errors.append(error)
            stopped = isinstance(error, (Interrupted, Preempted))
            outcome = str(error) if stopped else f"failed: {error}"
            if job.sweep_dir is not None:
                self._say_ended(job, error, outcome)
                _let_go(error)
        self.lines.append(f"{job.number:>3}  {job.label}  {outcome}")

    @property
    def stopped(self) -> Exception | None:
        """The request to stop that ended a job and is for all of them; `stop_at` is for each."""
        ends = (error for error in self.errors if isinstance(error, (Interrupted, Preempted)))
        return next((error for error in ends if not isinstance(error, Paused)), None)

    def raise_errors(self) -> None:
        """End the sweep as its jobs ended: by a request to stop, by `stop_at`, or well.

        Raises:
            SweepError: some failed.
        """
        failed = [error for error in self.errors if not isinstance(error, Paused)]
        if self.stopped:
            raise self.stopped
        if failed:
            raise SweepError(f"{len(failed)} of {len(self.lines)} jobs failed")
        for paused in self.errors:
            raise paused

    def _say_ended(self, job: Job, error: Exception, outcome: str) -> None:
        if not isinstance(error, VitxError):
            sys.stderr.write(shown("".join(traceback.format_exception(error))))
        line = f"vitx {self._verb}: job {job.number} ({job.label}) {outcome}"
        sys.stderr.write(f"{shown(line)}\n")


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of a kept error hold: the model, and a GPU's memory with it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def run_verb(
    verb: str,
    schema: type[Config],
    args: list[str],
    task: Callable[[Config, Job], str],
    *,
    check: Callable[[Config], None] = lambda _: None,
) -> int:
    """Compose and carry out a verb, once or for every job of a sweep.

    Args:
        verb: names the primary config.
        schema: the verb's configuration.
        args: the command line after the verb.
        task: does the work for one resolved configuration and returns how it came out.
        check: raises for what `--cfg job` should not show as good, beyond what `resolve` checks.

    Returns:
        0.

    Raises:
        SweepError: some jobs of a sweep failed; the others were done.
        VitxError: as a single job ended, or a sweep that was asked to stop.
    """
    words = split(verb, args)
    if words.value_of("--cfg", "-c") == "job":
        config = resolve(compose_words(verb, words, words.overrides), schema)
        check(config)
        sys.stdout.write(dump_yaml(config))
        return 0
    composed: list[DictConfig] = []
    jobs = Jobs(verb, lambda job: task(resolve(composed[-1], schema), job))
    varied = varied_keys(words)

    def start(config: DictConfig) -> None:
        composed.append(config)
        job = _about(varied)
        if job.sweep_dir is not None:
            _keep_from_others(job.sweep_dir / "multirun.yaml")
        jobs.carry_out(job)
        if jobs.sent:
            for error in jobs.errors:
                raise error  # the launcher takes it back to where it was typed

    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to our own boundary as they are
    sys.argv = [f"vitx {verb}", *args]
    application = hydra.main(
        version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name=verb
    )(start)
    try:
        application()
    except VitxError as failure:
        if not words.multirun or isinstance(failure, (Interrupted, Preempted)):
            raise
        raise SweepError(f"a job failed: {failure}") from failure
    if not words.multirun:
        for error in jobs.errors:
            raise error
        return 0
    if jobs.lines:
        print(shown("\n".join(["", f"sweep of {len(jobs.lines)} jobs", *jobs.lines])))
    jobs.raise_errors()
    return 0


def _keep_from_others(file: Path) -> None:
    """Let owner and group alone read what Hydra wrote down of a sweep."""
    with contextlib.suppress(OSError):  # a launcher may run its jobs elsewhere
        file.chmod(stat.S_IMODE(file.stat().st_mode) & ~stat.S_IRWXO)


def _about(varied: frozenset[str]) -> Job:
    hydra_config = HydraConfig.get()
    # As typed: read one by one, they would be taken for settings with interpolations to resolve.
    task = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = tuple(map(str, cast("list[str]", task)))
    choices = {str(key): value for key, value in hydra_config.runtime.choices.items()}
    if hydra_config.mode is not RunMode.MULTIRUN:
        return Job(choices=choices, overrides=overrides)
    return Job(
        choices=choices,
        overrides=overrides,
        sweep_dir=Path(hydra_config.sweep.dir),
        label=label_of(overrides, varied),
        number=int(hydra_config.job.num),
    )
