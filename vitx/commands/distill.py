"""`vitx distill`: train a student, its teacher before it where there is none."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vitx.commands import train
from vitx.commands.hydra_app import run_verb
from vitx.commands.job import Job
from vitx.commands.opening import choose_run, place_of
from vitx.commands.sweep_plan import Again
from vitx.config.resolve import from_plain
from vitx.config.schema import DistillConfig, TrainConfig
from vitx.errors import Interrupted, Preempted, Problems
from vitx.runtime.launch import aside, meet
from vitx.runtime.openmp import wait_politely

if TYPE_CHECKING:
    from vitx.runtime.world import World


def main(args: list[str], again: Again | None = None) -> int:
    """Carry out `vitx distill` with these arguments; `again` is a sweep of them that goes on."""
    return run_verb(
        "distill", DistillConfig, args, run, check=train.check, place=place_of, again=again
    )


def run(config: DistillConfig, job: Job) -> str:
    """Distil, or go on distilling, one run; return how it came out."""
    world = meet(config.runtime)
    with world.losses():
        missing = world.first(lambda: aside(partial(_missing, config, job), config.runtime))
        for told in missing:
            _train_teacher(told, world)
        if missing and world.leads:
            print("\nNow the student.", flush=True)
    return train.run(config, job)


def _train_teacher(plan: dict[str, Any], world: World) -> None:
    if world.leads:
        print(f"The teacher is trained first, in {plan['origin']}: {plan['why']}.", flush=True)
    try:
        train.run(from_plain(plan["config"], TrainConfig), Job(is_part=True))
    except (Interrupted, Preempted) as error:
        told = f"{error}, of the teacher; the same command goes on with it"
        raise type(error)(told) from error


def _missing(config: DistillConfig, job: Job) -> list[dict[str, Any]]:
    """Find the teachers that have to be trained, each as a run of its own.

    Returns:
        Their plans, as plain data.

    Raises:
        VitxError: one can't be had; or the student would be refused, which is said before hours
            of its teacher's training.
    """
    opened = choose_run(config, job)
    if opened.run.result.is_file():
        return []
    wait_politely()
    # torch takes seconds to import.
    from vitx.data.sources import load_splits
    from vitx.parts import find_problems
    from vitx.teaching.build import refuse_other_teachers
    from vitx.teaching.plan import plan_teachers

    own, run = opened.config, opened.run
    assert isinstance(own, DistillConfig)  # noqa: S101 (of this verb)
    plans = plan_teachers(own, load_splits(own.dataset))
    missing = [plan for plan in plans if plan.file is None]
    if not missing:
        return []
    if run.record.is_file():
        there = [None if plan.file else "" for plan in plans]
        refuse_other_teachers(run.read_record(), there)
    problems = Problems()
    problems.tried(run.try_make)
    problems.tried(run.refuse_in_use)
    find_problems(own, problems)
    problems.raise_all()
    return [plan.as_plain() for plan in missing]
