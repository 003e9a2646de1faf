"""`vitx train`: from a configuration to a trained model in a run directory."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from vitx.commands.hydra_app import run_verb
from vitx.commands.job import Job
from vitx.commands.opening import Opened, open_together, place_of, write_config
from vitx.commands.sweep_plan import Again
from vitx.config.schema import TrainConfig
from vitx.errors import (
    DataError,
    Interrupted,
    Preempted,
    Problems,
    Stopped,
    StorageError,
    UsageError,
)
from vitx.runtime.launch import launch, meet
from vitx.runtime.openmp import wait_politely
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import World


def main(args: list[str], again: Again | None = None) -> int:
    """Carry out `vitx train` with these arguments; `again` is a sweep of them that goes on."""
    return run_verb("train", TrainConfig, args, run, check=check, place=place_of, again=again)


def run(config: TrainConfig, job: Job) -> str:
    """Train, or go on training, one run; return how it came out."""
    world = meet(config.runtime)
    with world.losses(), ExitStack() as held:
        opened = open_together(config, job, world)
        world.first(lambda: held.enter_context(opened.run.locked()))
        if world.first(opened.run.result.is_file):
            if world.leads:
                print(finished_line(opened))
            return _outcome(opened)
        try:
            if world.leads:
                write_config(opened)
            apart = job.sweep_dir is not None or job.is_part
            launch(partial(_train, opened, job), world, opened.config.runtime, apart=apart)
        except (UsageError, DataError, StorageError, Preempted, Interrupted, Stopped):
            if world.leads and opened.fresh and not opened.run.is_trained():
                # Nothing was trained: what can't be started leaves nothing behind.
                opened.run.take_back(opened.made)
            raise
    return _outcome(opened) if world.leads else ""


def finished_line(opened: Opened) -> str:
    """Say that there is nothing left to train."""
    return f"{opened.run.path} is finished, {_outcome(opened)}; nothing to do"


def check(config: TrainConfig) -> None:
    """Try what `--cfg job` is to show as good, but for the data.

    Raises:
        VitxError: training would refuse it.
    """
    wait_politely()
    from vitx.parts import find_problems

    problems = Problems()
    find_problems(config, problems, without=frozenset({"dataset"}))
    problems.raise_all()


def _outcome(opened: Opened) -> str:
    return f"top-1 {opened.run.read_result()['top1']:.2f} %"


def _train(opened: Opened, job: Job, world: World) -> None:
    with StopRequest(world) as stop:
        wait_politely()
        # torch takes seconds to import; what is wrong with the command was said before.
        from vitx.commands.session import train_session

        train_session(opened, job, stop, world)
