"""`vitx distill`: train a student, its teacher before it where there is none."""

from __future__ import annotations

import sys

from vitx.commands import train
from vitx.commands.hydra_app import Job, run_verb
from vitx.commands.opening import choose_run
from vitx.config.schema import DistillConfig
from vitx.errors import UsageError
from vitx.runtime.openmp import wait_politely


def main(args: list[str]) -> int:
    """Carry out `vitx distill` with these arguments."""
    return run_verb("distill", DistillConfig, args, run, check=train.check)


def run(config: DistillConfig, job: Job) -> str:
    """Distil, or go on distilling, one run; return how it came out."""
    opened = choose_run(config, job)
    if not opened.run.result.is_file():
        if not isinstance(opened.config, DistillConfig):
            raise UsageError(f"{opened.run.path} has no teacher; type vitx train")
        _ready_teacher(opened.config)
    return train.run(config, job)


def _ready_teacher(config: DistillConfig) -> None:
    """Train the teacher where it has to be trained, as a run of its own."""
    wait_politely()
    from vitx.data.sources import load_splits
    from vitx.teaching import plan_teacher

    found = plan_teacher(config, load_splits(config.dataset))
    if found.file is None:
        print(f"The teacher is trained first, in {found.origin}: {found.why}.", file=sys.stdout)
        train.run(found.config, Job(is_part=True))
        print("\nNow the student.")
