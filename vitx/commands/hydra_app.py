"""A verb as a Hydra application: composition, `-m`, `--cfg job`, and what a sweep ends with."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from vitx.config.resolve import dump_yaml, resolve
from vitx.config.store import HYDRA_VERSION_BASE, compose, register
from vitx.errors import Interrupted, Preempted, SweepError, VitxError
from vitx.paths import conf_dir

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
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    sweep_dir: Path | None = None
    number: int = 0
    label: str = ""


class Jobs:
    """The jobs of one command line, carried out one after the other, and how they ended."""

    def __init__(self, verb: str, task: Callable[[Job], str]) -> None:
        self._verb, self._task = verb, task
        self.errors: list[Exception] = []
        self.lines: list[str] = []

    def carry_out(self, job: Job) -> None:
        """Carry out one job; an error of it is kept, since Hydra would print it in its own way."""
        if self.stopped:
            return
        try:
            outcome = self._task(job)
        except Exception as error:  # noqa: BLE001 (every one of them is raised or said later)
            self.errors.append(error)
            outcome = f"failed: {error}"
            if job.sweep_dir is not None:
                self._say_failed(job, error)
        self.lines.append(f"{job.number:>3}  {job.label}  {outcome}")

    @property
    def stopped(self) -> Exception | None:
        """The request to stop that ended a job, which is for all of them."""
        ends = (error for error in self.errors if isinstance(error, (Interrupted, Preempted)))
        return next(ends, None)

    def _say_failed(self, job: Job, error: Exception) -> None:
        if not isinstance(error, VitxError):
            traceback.print_exception(error)
        sys.stderr.write(f"vitx {self._verb}: job {job.number} ({job.label}) failed: {error}\n")


def run_verb(
    verb: str, schema: type[Config], args: list[str], task: Callable[[Config, Job], str]
) -> int:
    """Compose and carry out a verb, once or for every job of a sweep.

    Args:
        verb: names the primary config.
        schema: the verb's configuration.
        args: the command line after the verb.
        task: does the work for one resolved configuration and returns how it came out.

    Returns:
        0.

    Raises:
        SweepError: some jobs of a sweep failed; the others were done.
    """
    if (overrides := _asked_for_config(args)) is not None:
        sys.stdout.write(dump_yaml(resolve(compose(verb, overrides), schema)))
        return 0
    composed: list[DictConfig] = []
    jobs = Jobs(verb, lambda job: task(resolve(composed[-1], schema), job))
    varied = _varied(args)

    def start(config: DictConfig) -> None:
        composed.append(config)
        jobs.carry_out(_about(varied))

    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to our own boundary as they are
    sys.argv = [f"vitx {verb}", *args]
    hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name=verb)(
        start
    )()
    if not _is_sweep(args):
        for error in jobs.errors:
            raise error
        return 0
    print("\n".join(["", f"sweep of {len(jobs.lines)} jobs", *jobs.lines]))
    if jobs.stopped:
        raise jobs.stopped
    if jobs.errors:
        raise SweepError(f"{len(jobs.errors)} of {len(jobs.lines)} jobs failed")
    return 0


def _is_sweep(args: list[str]) -> bool:
    return any(flag in args for flag in ("-m", "--multirun", "hydra.mode=MULTIRUN"))


def _varied(args: list[str]) -> frozenset[str]:
    """Return the keys of the settings that a sweep varies."""
    if not _is_sweep(args):
        return frozenset()
    settings = [word for word in args if "=" in word and not word.startswith("-")]
    overrides = OverridesParser.create().parse_overrides(settings)
    return frozenset(each.get_key_element() for each in overrides if each.is_sweep_override())


def _about(varied: frozenset[str]) -> Job:
    hydra_config = HydraConfig.get()
    overrides = tuple(hydra_config.overrides.task)
    choices = {str(key): value for key, value in hydra_config.runtime.choices.items()}
    if hydra_config.mode is not RunMode.MULTIRUN:
        return Job(choices=choices, overrides=overrides)
    return Job(
        choices=choices,
        overrides=overrides,
        sweep_dir=Path(hydra_config.sweep.dir),
        label=" ".join(each for each in overrides if each.partition("=")[0] in varied),
        number=int(hydra_config.job.num),
    )


def _asked_for_config(args: list[str]) -> list[str] | None:
    """Return the overrides where `--cfg job` was asked for, else None.

    Hydra's own `--cfg job` shows what was composed; ours shows it typed, resolved and checked.
    """
    for flag in ("--cfg", "-c"):
        if flag in args and args[args.index(flag) + 1 :][:1] == ["job"]:
            at = args.index(flag)
            rest = args[:at] + args[at + 2 :]
            break
        if f"{flag}=job" in args:
            rest = [each for each in args if each != f"{flag}=job"]
            break
    else:
        return None
    overrides, words = [], iter(rest)
    for word in words:
        if word in ("--config-dir", "-cd"):
            folder = Path(next(words, ".")).resolve()
            overrides.append(f"hydra.searchpath=['file://{folder}']")
        elif not word.startswith("--"):
            overrides.append(word)
    return overrides
