"""`vitx distill`: train a student, its teacher before it where there is none."""

from __future__ import annotations

from vitx.commands import train
from vitx.commands.hydra_app import Job, run_verb
from vitx.commands.opening import Opened, choose_run
from vitx.config.schema import DistillConfig
from vitx.errors import Interrupted, Preempted, Problems
from vitx.runtime.openmp import wait_politely


def main(args: list[str]) -> int:
    """Carry out `vitx distill` with these arguments."""
    return run_verb("distill", DistillConfig, args, run, check=train.check)


def run(config: DistillConfig, job: Job) -> str:
    """Distil, or go on distilling, one run; return how it came out."""
    opened = choose_run(config, job)
    if not opened.run.result.is_file():
        _ready_teachers(opened)
    return train.run(config, job)


def _ready_teachers(opened: Opened) -> None:
    """Train the teachers that have to be trained, each as a run of its own.

    Raises:
        VitxError: it can't be had; or the student would be refused, which is said before hours
            of its teacher's training.
    """
    wait_politely()
    # torch takes seconds to import.
    from vitx.data.sources import load_splits
    from vitx.parts import find_problems
    from vitx.teaching.build import refuse_other_teachers
    from vitx.teaching.plan import plan_teachers

    config, run = opened.config, opened.run
    assert isinstance(config, DistillConfig)  # noqa: S101 (of this verb)
    plans = plan_teachers(config, load_splits(config.dataset))
    missing = [plan for plan in plans if plan.file is None]
    if not missing:
        return
    if run.record.is_file():
        there = [None if plan.file else "" for plan in plans]
        refuse_other_teachers(run.read_record(), there)
    problems = Problems()
    problems.tried(run.try_make)
    problems.tried(run.refuse_in_use)
    find_problems(config, problems)
    problems.raise_all()
    for plan in missing:
        print(f"The teacher is trained first, in {plan.origin}: {plan.why}.", flush=True)
        try:
            train.run(plan.config, Job(is_part=True))
        except (Interrupted, Preempted) as error:
            told = f"{error}, of the teacher; the same command goes on with it"
            raise type(error)(told) from error
    print("\nNow the student.", flush=True)
