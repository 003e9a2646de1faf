"""`vitx eval`: measure a run again."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from vitx.commands.hydra_app import run_verb
from vitx.commands.job import Job
from vitx.commands.sweep_plan import Again
from vitx.config.resolve import load_run_config, run_config_from, to_plain
from vitx.config.schema import EvalConfig, RuntimeConfig, TrainConfig
from vitx.errors import UsageError
from vitx.runs import RunDir, find_run
from vitx.runtime.launch import launch, meet
from vitx.runtime.memory_file import MemoryFile
from vitx.runtime.openmp import wait_politely
from vitx.runtime.rank import OTHERWISE
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import World


def main(args: list[str], again: Again | None = None) -> int:
    """Carry out `vitx eval` with these arguments; `again` is a sweep of them that goes on."""
    return run_verb("eval", EvalConfig, args, run, again=again)


# Settings of a dataset that the run has decided.
_DECIDED = ("train_split", "hold_out", "image_px", "channels", "mean", "std", "mirror", "workers")


def run(config: EvalConfig, job: Job) -> str:
    """Score one checkpoint of one run, and write eval/<suite>.json and .parquet of each suite.

    Returns:
        How it came out, in a few words.
    """
    refuse_decided(job)
    world = meet(RuntimeConfig(device=config.device, devices=config.devices))
    with world.losses(), MemoryFile() as outcome:  # which a process that is forked has too
        told = world.first(lambda: _find(config))
        trained = run_config_from(told["config"])
        runtime = dataclasses.replace(trained.runtime, device=config.device, devices=config.devices)
        story = partial(_score, config, RunDir(Path(told["run"])), trained, outcome)
        launch(story, world, runtime, advice=OTHERWISE)
        return outcome.read()


def _find(config: EvalConfig) -> dict[str, Any]:
    """Read, on rank 0 alone, where the run is and what it was trained with."""
    run = find_run(config.run)
    return {"run": str(run.path), "config": to_plain(load_run_config(run.config))}


def _score(
    config: EvalConfig, run_dir: RunDir, trained: TrainConfig, outcome: MemoryFile, world: World
) -> None:
    with StopRequest(world) as stop:
        wait_politely()
        # torch takes seconds to import; what is wrong with the command was said before.
        from vitx.commands.scoring import score_run

        results = score_run(config, run_dir, trained, stop, world)
    if world.leads:
        told = (f"{name} {top1:.2f} %" for name, top1 in results.items())
        outcome.write(f"top-1 {', '.join(told).removeprefix('val ')}")


def refuse_decided(job: Job) -> None:
    """Refuse settings of a dataset that the run has decided.

    Raises:
        UsageError: one was typed.
    """
    typed = {override.lstrip("+").partition("=")[0] for override in job.overrides}
    for name in _DECIDED:
        if f"dataset.{name}" in typed:
            instead = "type workers=N" if name == "workers" else "leave it out"
            raise UsageError(f"dataset.{name}: measured as the run was; {instead}")
