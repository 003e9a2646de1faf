"""A verb as a Hydra application: composition, `-m`, and `--cfg job`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vitx.commands.job import Job, job_of
from vitx.commands.sweep_plan import Again, Plan
from vitx.commands.sweeping import Sweeping
from vitx.config.jobs import compose_words, varied_keys
from vitx.config.quoting import hydra_arguments
from vitx.config.resolve import dump_yaml, resolve, to_config
from vitx.config.store import HYDRA_VERSION_BASE, register
from vitx.config.words import split
from vitx.paths import conf_dir
from vitx.sweeps.sweeper import conducted

Config = TypeVar("Config")


def run_verb(
    verb: str,
    schema: type[Config],
    args: list[str],
    task: Callable[[Config, Job], str],
    *,
    check: Callable[[Config], None] = lambda _: None,
    place: Callable[[Config, Job], Path | None] = lambda *_: None,
    again: Again | None = None,
) -> int:
    """Compose and carry out a verb, once or for every job of a sweep.

    Args:
        verb: names the primary config.
        schema: the verb's configuration.
        args: the command line after the verb, as typed.
        task: does the work for one resolved configuration and returns how it came out.
        check: raises for what `--cfg job` should not show as good, beyond what `resolve` checks.
        place: returns the run directory that a job will have, or raises what the job will end with.
        again: the sweep that goes on; None begins one, where `args` ask for it.

    Returns:
        0.

    Raises:
        SweepError: some jobs of a sweep failed; the others were done.
        VitxError: as a single job ended, or a sweep that was asked to stop.
    """
    ready = hydra_arguments(verb, split(verb, args))
    words = split(verb, ready)
    if words.value_of("--cfg", "-c") == "job":
        config = resolve(compose_words(verb, words, words.overrides), schema)
        check(config)
        sys.stdout.write(dump_yaml(config))
        return 0
    varied = varied_keys(words)
    plan = Plan(
        verb=verb,
        argv=tuple(args),
        place=lambda config, job: place(to_config(config, schema), job),
        varied=varied,
    )
    sweeping = Sweeping(plan, lambda config, job: task(resolve(config, schema), job), again=again)
    if words.multirun and not words.shows_only:
        with conducted(sweeping):
            _enter_hydra(
                verb,
                ready,
                lambda config: sweeping.carry_out(config, job_of(HydraConfig.get(), varied)),
            )
        sweeping.conclude()
        return 0
    errors: list[Exception] = []

    def start(config: DictConfig) -> None:
        try:
            task(resolve(config, schema), job_of(HydraConfig.get(), varied))
        except Exception as error:  # noqa: BLE001 (Hydra would print it in its own way)
            errors.append(error)

    _enter_hydra(verb, ready, start)
    for error in errors:
        raise error
    return 0


def _enter_hydra(verb: str, ready: list[str], start: Callable[[DictConfig], None]) -> None:
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to our own boundary as they are
    sys.argv = [f"vitx {verb}", *ready]
    hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name=verb)(
        start
    )()
