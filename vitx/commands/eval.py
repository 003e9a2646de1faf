"""`vitx eval`: measure a run again."""

from __future__ import annotations

import dataclasses
from functools import partial

from vitx.commands.hydra_app import run_verb
from vitx.commands.job import Job
from vitx.commands.sweep_plan import Again
from vitx.config.resolve import load_run_config
from vitx.config.schema import EvalConfig, TrainConfig
from vitx.errors import UsageError
from vitx.files import read_json
from vitx.runs import RunDir, find_run
from vitx.runtime.launch import launch, meet
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
    """Score one checkpoint of one run and write eval/<suite>.json and .parquet beside it.

    Returns:
        How it came out, in a few words.
    """
    refuse_decided(job)
    run_dir: RunDir = find_run(config.run)
    trained = load_run_config(run_dir.config)
    runtime = dataclasses.replace(trained.runtime, device=config.device, devices=config.devices)
    world = meet(runtime)
    with world.losses():
        launch(partial(_score, config, run_dir, trained), world, runtime, advice=OTHERWISE)
    if not world.leads:
        return ""
    return f"top-1 {read_json(run_dir.evaluation(config.suite))['top1']:.2f} %"


def _score(config: EvalConfig, run_dir: RunDir, trained: TrainConfig, world: World) -> None:
    with StopRequest(world) as stop:
        wait_politely()
        # torch takes seconds to import; what is wrong with the command was said before.
        from vitx.commands.scoring import score_run

        score_run(config, run_dir, trained, stop, world)


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
