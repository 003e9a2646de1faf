"""`vitx recipe`: published results to be run again, stage by stage, beside their numbers."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from vitx.config.hints import explain
from vitx.config.plain import read
from vitx.config.quoting import hydra_arguments
from vitx.config.recipes import Expected, Recipe, Stage, find, recipes
from vitx.config.schema import RecipeAction, RecipeConfig, Scale, TrainConfig
from vitx.config.screening import screen
from vitx.config.settings import schema_of
from vitx.config.smoke import smoke_overrides
from vitx.config.words import split
from vitx.errors import UsageError
from vitx.paths import runs_dir
from vitx.runs import RunDir
from vitx.runtime.signals import give_back, take_over


def main(args: list[str]) -> int:
    """Carry out `vitx recipe` with these arguments.

    Returns:
        0, or the exit code of the stage that did not end well.

    Raises:
        UsageError: there is no such recipe, or no such setting of a stage.
    """
    config, more = read_words(args)
    if config.action is RecipeAction.list:
        print("\n".join(_listed()))
        return 0
    if config.name is None:
        raise UsageError(f"name is needed; type vitx recipe {config.action.name} NAME")
    recipe = find(config.name)
    if config.action is RecipeAction.run:
        return _run(recipe, config.scale, more)
    print("\n".join(_shown(recipe, config.scale, more)))
    return 0


def read_words(args: list[str]) -> tuple[RecipeConfig, list[str]]:
    """Return what was asked for, and the words that are for each stage."""
    own = {"action", "name", "scale"}
    more = [word for word in args if "=" in word and word.partition("=")[0] not in own]
    return read("recipe", [word for word in args if word not in more], RecipeConfig), more


def _listed() -> Iterator[str]:
    known = recipes().values()
    width = max(len(recipe.name) for recipe in known)
    for recipe in known:
        top1 = f"{recipe.expected.top1:6.2f}" if recipe.expected else "     -"
        yield f"{recipe.name:<{width}}  {top1}  {recipe.title}"
    yield ""
    yield "second column: the top-1 to expect, in percent; vitx recipe show NAME says where from"


def _shown(recipe: Recipe, scale: Scale, more: Sequence[str]) -> Iterator[str]:
    yield f"{recipe.name}: {recipe.title}"
    yield ""
    for stage, words in stage_words(recipe, scale, more):
        yield f"stage {stage.name}"
        yield f"  vitx {stage.verb} {shlex.join(words)}"
    yield ""
    if recipe.expected is not None:
        expected = recipe.expected
        yield f"expected   {expected.top1:g} % top-1 of stage {expected.stage}"
        yield f"           {expected.conditions}; {expected.source}"
        if expected.spread:
            yield f"           {expected.spread}"
    yield f"cost       {recipe.cost}"
    for title, lines in (
        ("sources", [f"{what}: {where}" for what, where in recipe.sources]),
        ("different", recipe.differences),
    ):
        for number, line in enumerate(lines):
            yield f"{'' if number else title:<10} {line}"


def stage_words(
    recipe: Recipe, scale: Scale, more: Sequence[str] = ()
) -> list[tuple[Stage, list[str]]]:
    """Return each stage with what is typed behind its verb.

    Args:
        recipe: whose stages.
        scale: full or smoke.
        more: overrides for every stage.
    """
    folder = runs_dir() / "recipes" / (recipe.name + ("-smoke" if scale is Scale.smoke else ""))
    runs = {stage.name: str(folder / stage.name) for stage in recipe.stages}
    found = []
    for stage in recipe.stages:
        words = [word.format_map(runs) for word in stage.overrides]
        if scale is Scale.smoke:
            words = _smoke(stage.verb, words, local=set(runs.values()))
        found.append((stage, [*words, *more, f"run_dir={runs[stage.name]}"]))
    return found


def _smoke(verb: str, words: list[str], *, local: set[str]) -> list[str]:
    config = _resolved(verb, words)
    own = [word for word in words if not word.startswith(("dataset=", "dataset.path="))]
    weights = config.model.weights
    if weights is not None and weights not in local:  # nothing is downloaded for a rehearsal
        own = [word for word in own if not word.startswith("model.weights=")]
    return [*own, *smoke_overrides(config)]


def _resolved(verb: str, words: Sequence[str]) -> TrainConfig:
    # A third of a second to import; `list` composes nothing.
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from vitx.config.resolve import resolve
    from vitx.config.store import compose

    parts = split(verb, list(words))
    screen(verb, parts)
    try:
        composed = compose(verb, hydra_arguments(verb, parts))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error, verb, words)) from error
    schema: type[TrainConfig] = schema_of(verb)
    return resolve(composed, schema)


def _run(recipe: Recipe, scale: Scale, more: Sequence[str]) -> int:
    stages = stage_words(recipe, scale, more)
    for stage, words in stages:
        _resolved(stage.verb, words)  # what is wrong with a later stage is said before the first
    for number, (stage, words) in enumerate(stages, start=1):
        print(f"\nstage {stage.name}, {number} of {len(stages)}", flush=True)
        print(f"$ vitx {stage.verb} {shlex.join(words)}", flush=True)
        if code := _carry_out([stage.verb, *words]):
            return code
    print("\n".join(["", *_table(recipe, scale, stages)]))
    return 0


def _carry_out(words: list[str]) -> int:
    """Run one stage as a program of its own, so that it leaves no memory behind.

    Returns:
        Its exit code.
    """
    program = subprocess.Popen([sys.executable, "-m", "vitx", *words])  # noqa: S603 (our own)

    def forward(number: int, _: FrameType | None) -> None:
        # A terminal signals both; the program takes two within a moment for one request.
        program.send_signal(number)

    before = take_over(forward)
    try:
        return program.wait()
    finally:
        give_back(before)


def _table(
    recipe: Recipe, scale: Scale, stages: Sequence[tuple[Stage, list[str]]]
) -> Iterator[str]:
    yield f"{'stage':<12} {'ours':>8} {'95 % interval':>18} {'published':>10} {'difference':>11}"
    for stage, words in stages:
        run = RunDir(Path(words[-1].removeprefix("run_dir=")))
        # The papers kept averages of their weights and reported the weights themselves.
        result = run.read_result()["model"]
        low, high = result["top1_interval"]
        expected = _expected_of(recipe, stage)
        published = f"{expected.top1:.2f}" if expected else "-"
        difference = f"{result['top1'] - expected.top1:+.2f}" if expected else "-"
        if scale is Scale.smoke:
            difference = "-"
        yield (
            f"{stage.name:<12} {result['top1']:>8.2f} {f'{low:.2f} to {high:.2f}':>18} "
            f"{published:>10} {difference:>11}"
        )
    if scale is Scale.smoke:
        yield "a rehearsal on a few digits: its numbers say that it runs, not how well"
    elif recipe.expected is not None:
        yield f"published: {recipe.expected.conditions}; {recipe.expected.source}"


def _expected_of(recipe: Recipe, stage: Stage) -> Expected | None:
    expected = recipe.expected
    return expected if expected is not None and expected.stage == stage.name else None
