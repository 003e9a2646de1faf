"""Score a checkpoint as training did, and keep what was said of every sample."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from vitx.commands.measured_on import find_classes, find_suites, result_names
from vitx.commands.members import Member, build, find_member, find_others, suffix_of
from vitx.commands.probing import Probes
from vitx.commands.results import (
    conclude,
    result_lines,
    samples_digest,
    table_of,
    write_results,
)
from vitx.commands.scoring_record import Scoring
from vitx.config.schema import EvalConfig, EvalCrop, Protocol, TrainConfig
from vitx.data.sources import load_splits
from vitx.errors import Problems, UsageError
from vitx.evaluate.loop import EvaluationStopped, Judged
from vitx.evaluate.suites.names import OWN
from vitx.evaluate.suites.suite import Suite
from vitx.files import writable_place
from vitx.foreign_run import as_written
from vitx.loggers.console import Console
from vitx.models import heads
from vitx.models.build import patch_unit
from vitx.models.of_run import make_model
from vitx.parts import settle_machine
from vitx.records import EvalResult
from vitx.runs import RunDir
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World

Answers = Callable[[Suite], Iterator[tuple[Suite, list[Judged], dict[str, Any]]]]
"""Yields the results of a suite: what each is of, what was said, and further numbers."""

_STEP = re.compile(r"[0-9]{1,8}")


def score_run(
    config: EvalConfig, run: RunDir, trained: TrainConfig, stop: StopRequest, world: World = ALONE
) -> dict[str, float]:
    """Score a run on each suite, by all ranks; write and print the results.

    Returns:
        Top-1 in percent, by the name of the result; rank 0 has them.

    Raises:
        Preempted, Interrupted: asked to stop; nothing was written of the suite under way.
        VitxError: a part of it can't be had.
    """
    console = Console(quiet=not world.leads)
    world.first(lambda: str(writable_place(run.evaluations)))  # else it is measured in vain
    scoring = prepare(config, run, trained, world)
    for line in scoring.lines():
        console.say(line)
    world.started()  # from now on one that hangs is missed as soon as in training
    answers = _answers(config, scoring, stop, console)
    results: dict[str, float] = {}
    for suite in scoring.suites:
        try:
            for result, measured, facts in answers(suite):
                if world.leads:
                    written = _keep(config, run, trained, scoring, result, measured, facts, console)
                    results[result.name] = written["top1"]
        except EvaluationStopped:
            raise stop.as_error(f"in suite {suite.name}; nothing of it was written") from None
    return results


def _keep(
    config: EvalConfig,
    run: RunDir,
    trained: TrainConfig,
    scoring: Scoring,
    suite: Suite,
    measured: Sequence[Judged],
    facts: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Write one result, say it and return it."""
    table = table_of(suite, measured)
    written = {
        "suite": suite.name,
        "what": suite.what,
        "protocol": config.protocol.name,
        **scoring.facts(),
        "dataset": (config.dataset or trained.dataset).path or "digits",
        "split": suite.parts[0].images.name,
        "crop": (suite.parts[0].crop or config.crop).name,
        **facts,
        **conclude(suite, measured, scoring.classes, bins=config.bins),
        "samples": samples_digest(suite, table),
    }
    if measured[0].heads:
        written["head"] = scoring.config.evaluation.head.name
    write_results(run, suite.name, table, written)
    for line in result_lines(suite, written):
        console.say(line)
    as_trained = config.dataset is None and config.crop is EvalCrop.own and scoring.is_plain
    if suite.name == OWN and as_trained:
        console.say(_comparison(run, scoring, measured[0].result()))
    console.say(f"written to {run.evaluations / suite.name}.json and .parquet")
    return written


def _answers(
    config: EvalConfig,
    scoring: Scoring,
    stop: StopRequest,
    console: Console,
) -> Answers:
    """Return what yields the results of a suite by the protocol that is asked for."""
    if config.protocol is Protocol.head:
        return partial(_by_the_head, scoring, stop)
    if scoring.machine.world.size > 1:
        raise UsageError(
            f"protocol={config.protocol.name}: one process computes it; type devices=1"
        )
    return Probes(scoring, config.probe, config.protocol, say=console.say, stop=stop.agree).results


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
    names, record = result_names(config), world.first(run.known_record)
    found = world.first(lambda: [each.as_plain() for each in _members(config, run, trained)])
    members = tuple(map(Member.restore, found))
    settings = settings_of(config, trained, record)
    own = cache(partial(load_splits, trained.dataset))
    classes = find_classes(record, own)
    machine = settle_machine(settings, world)
    model = build(members, config.combine, classes=len(classes), settings=settings, machine=machine)
    refuse_head(config, model)
    suites = find_suites(config, trained, classes, names, own, patch_px=patch_unit(model))
    suffix = suffix_of(config, members)
    suites = tuple(dataclasses.replace(each, name=each.name + suffix) for each in suites)
    for px in {part.image_px for suite in suites for part in suite.parts} - {None}:
        dataset = dataclasses.replace(settings.dataset, image_px=px)  # else it ends in the middle
        resized = dataclasses.replace(settings, dataset=dataset)
        make_model(resized, num_classes=len(classes), device=torch.device("cpu"))
    return Scoring(
        config=settings,
        members=members,
        combine=config.combine,
        classes=classes,
        suites=suites,
        own=own,
        crop=config.crop,
        machine=machine,
        model=model,
    )


def _members(config: EvalConfig, run: RunDir, trained: TrainConfig) -> list[Member]:
    """Find the weights; rank 0 does."""
    first = _own_member(config, run, trained)
    others = find_others(config, first)
    for other in others:
        _refuse_other_classes(other, run.known_record().get("classes"))
    return [first, *others]


def _own_member(config: EvalConfig, run: RunDir, trained: TrainConfig) -> Member:
    return find_member(
        run,
        trained,
        checkpoint=config.checkpoint,
        weights=config.weights,
        average=config.average,
    )


def _refuse_other_classes(member: Member, classes: list[str] | None) -> None:
    theirs = RunDir(member.run).known_record().get("classes")
    if theirs is None or theirs != classes:
        raise UsageError(f"also={member.run}: it was trained on other classes, or in another order")


def refuse_head(config: EvalConfig, model: nn.Module) -> None:
    """Refuse a choice of head where there is none.

    Raises:
        UsageError: one was chosen, and the model has one head.
    """
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
    names = tried(lambda: result_names(config))
    tried(lambda: _own_member(config, run, trained))
    if (record := tried(run.known_record)) is not None:
        own = cache(partial(load_splits, trained.dataset))
        if (classes := tried(lambda: find_classes(record, own))) is not None:
            for name in names or [OWN]:
                tried(partial(find_suites, config, trained, classes, [name], own))
        tried(lambda: settle_machine(settings_of(config, trained, record)))


def settings_of(config: EvalConfig, trained: TrainConfig, record: dict[str, Any]) -> TrainConfig:
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
