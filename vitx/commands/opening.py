"""Which directory a run is in, and whether it is begun, continued, finished or refused."""

from __future__ import annotations

import dataclasses
import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vitx.commands.job import Job
from vitx.config.resolve import (
    differences,
    dump_yaml,
    from_plain,
    load_run_config,
    to_plain,
)
from vitx.config.schema import DistillConfig, TrainConfig
from vitx.errors import StorageError, UsageError
from vitx.files import write_text
from vitx.folders import absent
from vitx.foreign_run import refuse_strange_entries
from vitx.paths import runs_dir
from vitx.runs import RunDir, check_name, free_run_dir, new_run_dir
from vitx.runtime.world import World

Section = TypeVar("Section")
_LONGEST_LABEL = 120  # bytes: what the name of a sweep's run says of its settings


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The run directory of a configuration.

    Attributes:
        run: the directory.
        config: what it is trained with.
        fresh: whether no run was in it before.
        made: directories that were made for it, innermost first; none where the user had made it.
    """

    run: RunDir
    config: TrainConfig
    fresh: bool
    made: tuple[Path, ...] = ()


def open_run(config: TrainConfig, job: Job) -> Opened:
    """Find or make the run directory of a configuration.

    Returns:
        The directory, and the configuration that this session trains with.

    Raises:
        StorageError: it can't be written, or `resume` names no run or one of another config.
        UsageError: `resume`, `run_dir` and `name` contradict each other.
    """
    opened = choose_run(config, job)
    if _names_itself(config, job):
        name = check_name(config.name) if config.name else _default_name(job)
        above = absent(runs_dir())
        run = new_run_dir(name)
        return dataclasses.replace(opened, run=run, made=(run.path, *above))
    return dataclasses.replace(opened, made=opened.run.make())


def open_together(config: TrainConfig, job: Job, world: World) -> Opened:
    """Do what `open_run` does on rank 0; what it found the other ranks receive."""
    if world.size == 1:
        return open_run(config, job)

    def opened_by_first() -> dict[str, Any]:
        opened = open_run(config, job)
        return {
            "path": str(opened.run.path),
            "config": to_plain(opened.config),
            "fresh": opened.fresh,
            "made": list(map(str, opened.made)),
        }

    told = world.first(opened_by_first)
    return Opened(
        run=RunDir(Path(told["path"])),
        config=from_plain(told["config"], type(config)),
        fresh=told["fresh"],
        made=tuple(map(Path, told["made"])),
    )


def choose_run(config: TrainConfig, job: Job) -> Opened:
    """Do what `open_run` does, but make nothing."""
    if config.resume not in ("auto", "never"):
        return _continue_named(config, job)
    run = _wanted_dir(config, job)
    if run is not None and run.exists():
        return _continue_found(config, run)
    if run is None:
        name = check_name(config.name) if config.name else _default_name(job)
        return Opened(run=free_run_dir(name), config=config, fresh=True)
    return Opened(run=run, config=config, fresh=True)


def place_of(config: TrainConfig, job: Job) -> Path | None:
    """Return the run directory that a job will have; None where its name follows from the time.

    Raises:
        UsageError: what was typed contradicts itself.
    """
    if config.resume not in ("auto", "never"):
        return Path(config.resume)
    wanted = _wanted_dir(config, job)
    return None if wanted is None else wanted.path


def verb_of(config: TrainConfig) -> str:
    """Return the verb that a configuration is of."""
    return "distill" if isinstance(config, DistillConfig) else "train"


def write_config(opened: Opened) -> None:
    """Write the configuration of a run.

    One that goes on keeps its own, but for where the data lie now and what happens to bad pictures:
    evaluation reads that.
    """
    config = opened.config
    if opened.run.exists():
        saved, now = load_run_config(opened.run.config), config.dataset
        dataset = dataclasses.replace(
            saved.dataset,
            path=now.path,
            bad_image=now.bad_image,
            bad_image_limit=now.bad_image_limit,
        )
        if dataset == saved.dataset:
            return
        config = dataclasses.replace(saved, dataset=dataset)
    write_text(opened.run.config, dump_yaml(config))


def _continue_named(config: TrainConfig, job: Job) -> Opened:
    run = RunDir(Path(config.resume))
    run.refuse_headless()
    if not run.exists():
        raise StorageError(f"resume={config.resume}: no run there (no {run.config.name})")
    refuse_strange_entries(run.path)
    if config.run_dir is not None and Path(config.run_dir).resolve() != run.path.resolve():
        raise UsageError("resume=PATH continues the run at PATH; leave run_dir out")
    saved = load_run_config(run.config)
    _refuse_other_verb(run, saved, config)
    wanted = _overlay(saved, config, {*_touched(job), "run_dir", "name", "resume", "stop_at"})
    _refuse_other_config(run, saved, wanted)
    return Opened(run=run, config=wanted, fresh=False)


def _continue_found(config: TrainConfig, run: RunDir) -> Opened:
    if config.resume == "never":
        raise StorageError(f"{run.path} holds a run already; choose another run_dir or resume=auto")
    refuse_strange_entries(run.path)
    _refuse_other_config(run, load_run_config(run.config), config)
    return Opened(run=run, config=config, fresh=False)


def _refuse_other_verb(run: RunDir, saved: TrainConfig, wanted: TrainConfig) -> None:
    if type(saved) is not type(wanted):
        raise StorageError(f"{run.path} was begun by vitx {verb_of(saved)}; go on with that")


def _refuse_other_config(run: RunDir, saved: TrainConfig, wanted: TrainConfig) -> None:
    _refuse_other_verb(run, saved, wanted)
    if changed := differences(saved, wanted):
        raise StorageError(
            f"{run.path} holds a run of another configuration ({'; '.join(changed)}); "
            "choose another run_dir, or give the same settings"
        )


def _names_itself(config: TrainConfig, job: Job) -> bool:
    return config.resume in ("auto", "never") and _wanted_dir(config, job) is None


def _wanted_dir(config: TrainConfig, job: Job) -> RunDir | None:
    if job.sweep_dir is not None and config.run_dir is not None and "run_dir=" not in job.label:
        raise UsageError(
            f"run_dir={config.run_dir}: the runs of a sweep can't share a directory; leave it out"
        )
    if config.run_dir is not None:
        return RunDir(Path(config.run_dir))
    if job.sweep_dir is not None:
        if config.name is not None:
            raise UsageError(
                f"name={config.name}: a sweep names its runs by what it varies; leave it out"
            )
        settings = re.sub(r"[^\w.,=+-]+", ",", job.label).encode()[:_LONGEST_LABEL]
        label = settings.decode(errors="ignore")  # cut within a letter, that letter goes too
        return RunDir(job.sweep_dir / f"{job.number}-{label}".rstrip("-_,"))
    return None


def _default_name(job: Job) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = (job.choices.get("model"), job.choices.get("dataset"), now)
    return "-".join(part for part in parts if part)


def _touched(job: Job) -> set[str]:
    keys = {override.lstrip("+~").partition("=")[0].partition("@")[0] for override in job.overrides}
    # These may set anything, so everything counts as typed.
    return {""} if keys & {"experiment", "debug"} else keys


def _overlay(saved: Section, now: Section, touched: set[str], prefix: str = "") -> Section:
    """Return `saved` with what was typed this time laid over it."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(saved):  # type: ignore[arg-type]
        name, old, new = (
            f"{prefix}{field.name}",
            getattr(saved, field.name),
            getattr(now, field.name),
        )
        if "" in touched or name in touched:
            values[field.name] = new
        elif dataclasses.is_dataclass(old):
            values[field.name] = _overlay(old, new, touched, f"{name}.")
        elif isinstance(old, dict):
            typed = {key for key in new if f"{name}.{key}" in touched}
            values[field.name] = {**old, **{key: new[key] for key in typed}}
        else:
            values[field.name] = old
    return type(saved)(**values)
