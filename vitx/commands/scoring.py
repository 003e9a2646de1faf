"""Score a checkpoint as training did, and keep what was said of every sample."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import path_of, steps_in
from vitx.commands.probing import Probes
from vitx.commands.results import conclude, result_lines, write_results
from vitx.commands.scoring_record import Scoring
from vitx.config.schema import EvalConfig, EvalCrop, Protocol, TrainConfig, Weights
from vitx.data.sources import load_splits, load_val
from vitx.errors import Problems, StorageError, UsageError
from vitx.evaluate.loop import EvaluationStopped, Judged
from vitx.evaluate.suites.names import GROUPS, NAMES, OWN, named
from vitx.evaluate.suites.own import as_it_is
from vitx.evaluate.suites.published import Given
from vitx.evaluate.suites.suite import Suite
from vitx.evaluate.suites.table import SUITES
from vitx.files import read_json
from vitx.foreign_run import as_written
from vitx.loggers.console import Console
from vitx.models import heads
from vitx.models.of_run import make_model
from vitx.models.weights import load_weights
from vitx.parts import settle_machine
from vitx.records import EvalResult
from vitx.runs import RunDir, check_name
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World

Answers = Callable[[Suite], Iterator[tuple[Suite, list[Judged], dict[str, Any]]]]
"""Yields the results of a suite: what each is of, what was said, and further numbers."""

_STEP = re.compile(r"[0-9]{1,8}")


def score_run(
    config: EvalConfig, run: RunDir, trained: TrainConfig, stop: StopRequest, world: World = ALONE
) -> None:
    """Score one checkpoint of a run on each suite, by all ranks; write and print the results.

    Raises:
        Preempted, Interrupted: asked to stop; nothing was written of the suite under way.
        VitxError: a part of it can't be had.
    """
    console = Console(quiet=not world.leads)
    scoring = prepare(config, run, trained, world)
    for line in scoring.lines():
        console.say(line)
    answers = _answers(config, scoring, trained, stop, console, world)
    for suite in scoring.suites:
        try:
            for result, measured, facts in answers(suite):
                if world.leads:
                    _keep(config, run, trained, scoring, result, measured, facts, console)
        except EvaluationStopped:
            raise stop.as_error(f"in suite {suite.name}; nothing of it was written") from None


def _keep(
    config: EvalConfig,
    run: RunDir,
    trained: TrainConfig,
    scoring: Scoring,
    suite: Suite,
    measured: Sequence[Judged],
    facts: dict[str, Any],
    console: Console,
) -> None:
    """Write one result and say it."""
    written = {
        "suite": suite.name,
        "what": suite.what,
        "protocol": config.protocol.name,
        "step": scoring.step,
        "weights": scoring.weights,
        "dataset": (config.dataset or trained.dataset).path or "digits",
        "split": suite.parts[0].images.name,
        "crop": config.crop.name,
        **facts,
        **conclude(suite, measured, scoring.classes, bins=config.bins),
    }
    if measured[0].heads:
        written["head"] = scoring.config.evaluation.head.name
    write_results(run, suite, measured, written)
    for line in result_lines(suite, written):
        console.say(line)
    if suite.name == OWN and config.dataset is None and config.crop is EvalCrop.own:
        console.say(_comparison(run, scoring, measured[0].result()))
    console.say(f"written to {run.evaluations / suite.name}.json and .parquet")


def _answers(
    config: EvalConfig,
    scoring: Scoring,
    trained: TrainConfig,
    stop: StopRequest,
    console: Console,
    world: World,
) -> Answers:
    """Return what yields the results of a suite by the protocol that is asked for."""
    if config.protocol is Protocol.head:
        return partial(_by_the_head, scoring, stop)
    if world.size > 1:
        raise UsageError(
            f"protocol={config.protocol.name}: one process computes it; type devices=1"
        )
    train = load_splits(trained.dataset).train
    return Probes(
        scoring, config.probe, config.protocol, train, say=console.say, stop=stop.agree
    ).results


def _by_the_head(
    scoring: Scoring, stop: StopRequest, suite: Suite
) -> Iterator[tuple[Suite, list[Judged], dict[str, Any]]]:
    evaluators = ((scoring.evaluator(part), scoring.model_for(part)) for part in suite.parts)
    yield suite, [score(model, stop=stop.agree) for score, model in evaluators], {}


def prepare(config: EvalConfig, run: RunDir, trained: TrainConfig, world: World = ALONE) -> Scoring:
    """Load what an evaluation needs; nothing is written.

    Args:
        config: what to score.
        run: the run.
        trained: its configuration.
        world: the ranks that share the pictures.

    Returns:
        Model and data.

    Raises:
        VitxError: one of them can't be had, or they don't go together.
    """
    record = run.known_record()
    names = _names(config)
    checkpoint, step = find_checkpoint(config, run)
    weights = choose_weights(config.weights, checkpoint)
    settings = _settings(config, trained, record)
    suites, classes = find_suites(config, trained, record, names)
    machine = settle_machine(settings, world)
    model = make_model(settings, num_classes=len(classes), device=machine.device)
    load_weights(model, checkpoint / f"{weights}.safetensors")
    _refuse_head(config, model)
    return Scoring(
        config=settings,
        checkpoint=checkpoint,
        step=step,
        weights=weights,
        classes=classes,
        suites=suites,
        crop=config.crop,
        machine=machine,
        model=model,
    )


def _refuse_head(config: EvalConfig, model: nn.Module) -> None:
    if config.head is not None and not heads.has_two(model):
        raise UsageError(f"head={config.head.name}: this model has one head; leave it out")


def find_scoring_problems(
    config: EvalConfig, run: RunDir, trained: TrainConfig, problems: Problems
) -> None:
    """Try each part of an evaluation by itself.

    Args:
        config: what to score.
        run: the run.
        trained: its configuration.
        problems: takes what is wrong.
    """
    tried = problems.tried
    names = tried(lambda: _names(config))
    tried(lambda: choose_weights(config.weights, find_checkpoint(config, run)[0]))
    if (record := tried(run.known_record)) is not None:
        for name in names or ():
            tried(lambda name=name: find_suites(config, trained, record, [name]))  # type: ignore[misc]
        tried(lambda: settle_machine(_settings(config, trained, record)))


def _names(config: EvalConfig) -> list[str]:
    """Return the names of the results."""
    if config.dataset is None:
        return named(config.suite)
    if len(config.suite) != 1 or config.suite[0] in {*NAMES, *GROUPS}:
        raise UsageError("suite=NAME of your own is needed for the result on another dataset")
    return [check_name(config.suite[0])]


def find_suites(
    config: EvalConfig, trained: TrainConfig, record: dict[str, Any], names: Sequence[str]
) -> tuple[tuple[Suite, ...], tuple[str, ...]]:
    """Find what is measured on, and the names of the model's classes.

    Args:
        config: says where it is.
        trained: the run's configuration.
        record: run.json; empty where it was lost.
        names: of the suites.

    Returns:
        The suites and the classes.

    Raises:
        VitxError: something is not there, or of other classes.
    """
    own = cache(lambda: load_splits(trained.dataset))
    if config.dataset is not None:
        # The data it was trained on need not be here.
        classes = tuple(record.get("classes") or own().classes)
        found = load_val(config.dataset, classes=classes)
        return (as_it_is(names[0], found.val, found.notes),), classes
    given = Given(
        classes=tuple(record.get("classes") or own().classes),
        own=lambda: own().val,
        config=trained.dataset,
        data=None if config.data is None else Path(config.data),
        paths=dict(config.paths),
        partial=config.partial,
        sizes_px=tuple(config.resolutions),
        corruptions=tuple(config.corruptions),
        severities=tuple(config.severities),
    )
    return tuple(SUITES[name](given) for name in names), given.classes


def find_checkpoint(config: EvalConfig, run: RunDir) -> tuple[Path, int]:
    """Return the folder and step of the checkpoint that is asked for.

    Raises:
        StorageError: the run has no such checkpoint, or it is damaged.
        UsageError: `checkpoint` is neither last, best nor a step.
    """
    steps = steps_in(run.checkpoints)
    if not steps:
        raise StorageError(f"{run.path} has no checkpoint yet")
    if config.checkpoint == "last":
        step = steps[-1]
    elif config.checkpoint == "best":
        file = path_of(run.checkpoints, steps[-1]) / "state.json"
        with as_written(file):
            step = int(read_json(file)["callbacks"]["evaluation"]["best_step"] or steps[-1])
    elif _STEP.fullmatch(config.checkpoint):
        step = int(config.checkpoint)
    else:
        raise UsageError(f"checkpoint={config.checkpoint}: expected last, best or a step number")
    if step not in steps:
        known = ", ".join(map(str, steps))
        raise StorageError(f"{run.path} has no checkpoint of step {step}; it has {known}")
    folder = path_of(run.checkpoints, step)
    if damage := find_damage(folder):
        raise StorageError(f"checkpoint {folder} is damaged: {damage}; try another checkpoint=")
    return folder, step


def choose_weights(wanted: Weights, checkpoint: Path) -> str:
    """Return `ema` or `model`.

    Raises:
        UsageError: the average is asked for and the run kept none.
    """
    has_ema = (checkpoint / "ema.safetensors").is_file()
    if wanted is Weights.ema and not has_ema:
        raise UsageError("weights=ema: this run kept no average (ema.decay was null)")
    return "ema" if has_ema and wanted is not Weights.model else "model"


def _settings(config: EvalConfig, trained: TrainConfig, record: dict[str, Any]) -> TrainConfig:
    """Return the run's settings with what evaluation may change; else as training evaluated."""
    environment = record.get("environment") or {}
    dataset = dataclasses.replace(trained.dataset, workers=config.workers)
    if config.dataset is not None:
        dataset = dataclasses.replace(
            dataset,
            bad_image=config.dataset.bad_image,
            bad_image_limit=config.dataset.bad_image_limit,
            max_pixels=config.dataset.max_pixels,
        )
    threads = trained.runtime.threads or environment.get("threads")
    return dataclasses.replace(
        trained,
        dataset=dataset,
        runtime=dataclasses.replace(trained.runtime, device=config.device, threads=threads),
        evaluation=dataclasses.replace(
            trained.evaluation,
            batch_size=config.batch_size or trained.evaluation.batch_size,
            head=config.head or trained.evaluation.head,
        ),
    )


def _comparison(run: RunDir, scoring: Scoring, result: EvalResult) -> str:
    """Say how a result on the run's own split compares with that of training."""
    if not run.result.is_file():
        return "training is not finished: there is no recorded result to compare with"
    recorded, step, weights = run.read_result(), scoring.step, scoring.weights
    if recorded["step"] != step or weights not in recorded:
        return f"training recorded its result at step {recorded['step']}"
    before = recorded[weights]
    before = before.get("heads", {}).get(scoring.config.evaluation.head.name, before)
    now = result.as_dict()
    with as_written(run.result):
        if all(before[name] == now[name] for name in ("top1", "top5", "loss", "count")):
            return "exactly what training recorded"
    return f"training recorded top-1 {before['top1']!r}, loss {before['loss']!r}"
