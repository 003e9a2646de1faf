"""`vitx eval`: measure a run again."""

from __future__ import annotations

from vitx.commands.hydra_app import Job, run_verb
from vitx.config.resolve import load_run_config
from vitx.config.schema import EvalConfig
from vitx.errors import UsageError
from vitx.runs import RunDir, find_run
from vitx.runtime.openmp import wait_politely


def main(args: list[str]) -> int:
    """Carry out `vitx eval` with these arguments."""
    return run_verb("eval", EvalConfig, args, run)


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
    wait_politely()
    # torch takes seconds to import; what is wrong with the command was said before.
    from vitx.commands.scoring import score_run

    result = score_run(config, run_dir, trained)
    return f"top-1 {result.top1:.2f} %"


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
