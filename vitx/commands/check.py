"""`vitx check`: everything short of carrying out a command line, and all that is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from vitx.commands.job import Job
from vitx.config.checks import problems_of
from vitx.config.jobs import ComposedJob, read_command_line
from vitx.config.manual import page
from vitx.config.resolve import to_config
from vitx.config.schema import EvalConfig, RecipeAction, TrainConfig
from vitx.config.settings import schema_of
from vitx.config.store import SCHEMAS
from vitx.config.words import CHECKED, split
from vitx.errors import Problems, UsageError, near_matches
from vitx.files import writable_place
from vitx.runtime.openmp import wait_politely


def main(args: list[str]) -> int:
    """Carry out `vitx check` with these arguments: a verb and its words, or those of `train`."""
    verb, words = (args[0], args[1:]) if args else ("train", [])
    if "=" in verb or verb.startswith(("-", "~")):
        verb, words = "train", args
    if verb not in CHECKED:
        hint = near_matches(verb, CHECKED) or f"; {', '.join(CHECKED)} can be checked"
        raise UsageError(f"{verb}: nothing to check{hint}")
    if {"--help", "-h"} & {*words}:
        sys.stdout.write(page("check" if words is args else verb))
        return 0
    if verb in SCHEMAS and split(verb, words).shows_only:
        raise UsageError(f"check shows no configuration; type vitx {verb} {' '.join(words)}")
    problems = Problems()
    if verb == "recipe":
        _check_recipe(words, problems)
    elif verb == "import":
        problems.tried(lambda: _check_import(words))
    else:
        _check_command(verb, words, problems)
    problems.raise_all()
    print("found nothing that would be refused")
    return 0


def _check_command(verb: str, args: Sequence[str], problems: Problems) -> None:
    """Check each job of a command line that Hydra composes."""
    line = problems.tried(lambda: read_command_line(verb, args))
    if line is None:
        return
    problems.found += [UsageError(problem) for problem in line.problems]
    problems.tried(lambda: _refuse_shared_runs(line.jobs))
    for number, composed in enumerate(line.jobs):
        own = Problems(lenient=bool(line.problems))
        job = _as_job(composed, number=number, in_sweep=line.multirun)
        if line.multirun:
            print(f"\njob {number}  {job.label}")
        _check_job(verb, composed, job, own, incomplete=line.incomplete)
        if line.multirun:
            for problem in own.lines():
                print(f"problem    {problem}")
        problems.found += own.found


def _refuse_shared_runs(jobs: Sequence[ComposedJob]) -> None:
    numbers: dict[str, int] = {}
    for number, job in enumerate(jobs):
        place = job.config.get("run_dir")
        if place is not None and numbers.setdefault(place, number) != number:
            raise UsageError(
                f"run_dir={place}: jobs {numbers[place]} and {number} of the sweep share it"
            )


def _as_job(composed: ComposedJob, *, number: int, in_sweep: bool) -> Job:
    hydra = composed.config.hydra
    return Job(
        choices={str(key): value for key, value in hydra.runtime.choices.items()},
        overrides=composed.overrides,
        sweep_dir=Path(hydra.sweep.dir) if in_sweep else None,
        number=number,
        label=composed.label,
    )


def _check_job(
    verb: str, composed: ComposedJob, job: Job, problems: Problems, *, incomplete: frozenset[str]
) -> None:
    schema: type[TrainConfig | EvalConfig] = schema_of(verb)
    config = to_config(composed.config, schema)
    wrong = problems_of(config)
    problems.found += [UsageError(problem) for problem in wrong]
    problems.lenient = problems.lenient or bool(wrong)
    wait_politely()
    # torch takes seconds to import.
    from vitx.commands.rehearsal import rehearse_evaluation, rehearse_training

    match config:
        case TrainConfig():
            rehearse_training(config, job, problems, incomplete=incomplete)
        case EvalConfig():
            rehearse_evaluation(config, job, problems)


def _check_recipe(args: list[str], problems: Problems) -> None:
    """Check the stages of a recipe; weights of a stage not yet done are not there to be checked."""
    from vitx.commands.recipe import read_words, stage_words
    from vitx.config.recipes import find

    config, more = read_words(args)
    if config.action is not RecipeAction.run or config.name is None:
        raise UsageError("only vitx check recipe run NAME checks something")
    ahead: set[str] = set()
    for stage, words in stage_words(find(config.name), config.scale, more):
        print(f"\nstage {stage.name}")
        later = {f"model.weights={run}" for run in ahead if not Path(run).exists()}
        for word in later & {*words}:
            print(f"weights    {word.partition('=')[2]} will be there after the stages before")
        _check_command(stage.verb, [word for word in words if word not in later], problems)
        ahead.add(words[-1].removeprefix("run_dir="))


def _check_import(args: list[str]) -> None:
    """Read a foreign file and try it, into a directory that is removed again."""
    from vitx.commands.import_ import bring_in, read_words

    config, to = read_words(args)
    writable_place(to.parent)
    with TemporaryDirectory() as folder:
        print("\n".join(bring_in(config, Path(folder) / to.name)))
