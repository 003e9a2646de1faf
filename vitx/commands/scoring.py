"""Score a checkpoint as training did, and keep what was said of every sample."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import path_of, steps_in
from vitx.commands.results import conclude, result_lines, write_results
from vitx.config.schema import EvalConfig, EvalCrop, PosResize, TrainConfig, Weights
from vitx.data.sources import load_splits, load_val
from vitx.errors import Problems, StorageError, UsageError
from vitx.evaluate.loop import EvaluationStopped, Evaluator, Judged
from vitx.evaluate.suites.names import GROUPS, NAMES, OWN, named
from vitx.evaluate.suites.own import as_it_is
from vitx.evaluate.suites.published import Given
from vitx.evaluate.suites.suite import Part, Suite
from vitx.evaluate.suites.table import SUITES
from vitx.files import read_json
from vitx.foreign_run import as_written
from vitx.loggers.console import Console
from vitx.models import heads
from vitx.models.of_run import make_model
from vitx.models.transfer import transfer
from vitx.models.weights import load_weights
from vitx.parts import Machine, make_part_evaluator, settle_machine
from vitx.records import EvalResult
from vitx.runs import RunDir, check_name
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World

_RESIZE = PosResize.bicubic_antialias  # timm's own way
_STEP = re.compile(r"[0-9]{1,8}")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A checkpoint and what it is to be scored on.

    Attributes:
        config: the run's settings with what evaluation may change.
        checkpoint: its folder.
        step: its step.
        weights: `model` or `ema`.
        classes: names of the classes.
        suites: measured one after the other.
        crop: what of a picture is shown.
        machine: where it is computed.
        model: on its device, with those weights.
    """

    config: TrainConfig
    checkpoint: Path
    step: int
    weights: str
    classes: tuple[str, ...]
    suites: tuple[Suite, ...]
    crop: EvalCrop
    machine: Machine
    model: nn.Module

    def lines(self) -> Iterator[str]:
        """Say what is scored."""
        yield f"{self.checkpoint}, weights {self.weights}"
        for suite in self.suites:
            yield f"{suite.name}: {suite.what}"
            yield from suite.notes

    def evaluator(self, part: Part) -> Evaluator:
        """Return what scores a model on a part."""
        return make_part_evaluator(self.config, part, self.machine, crop=self.crop)

    def model_for(self, part: Part) -> nn.Module:
        """Return the model for the pictures of a part.

        Raises:
            UsageError: no such model can be built for their size.
        """
        if part.image_px in (None, self.config.image_px):
            return self.model
        dataset = dataclasses.replace(self.config.dataset, image_px=part.image_px)
        settings = dataclasses.replace(self.config, dataset=dataset)
        device = self.machine.device
        model = make_model(settings, num_classes=len(self.classes), device=device)
        file = self.checkpoint / f"{self.weights}.safetensors"
        transfer(model, file, source=str(file), resize=_RESIZE, partial=False)
        return model


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
    for suite in scoring.suites:
        try:
            measured = [_measure(scoring, part, stop) for part in suite.parts]
        except EvaluationStopped:
            raise stop.as_error(f"in suite {suite.name}; nothing of it was written") from None
        if not world.leads:
            continue
        written = {
            "suite": suite.name,
            "what": suite.what,
            "step": scoring.step,
            "weights": scoring.weights,
            "dataset": (config.dataset or trained.dataset).path or "digits",
            "split": suite.parts[0].images.name,
            "crop": config.crop.name,
            **conclude(suite, measured, scoring.classes, bins=config.bins),
        }
        if measured[0].heads:
            written["head"] = scoring.config.evaluation.head.name
        write_results(run, suite, measured, written)
        for line in result_lines(suite, written):
            console.say(line)
        if suite.name == OWN and config.dataset is None and config.crop is EvalCrop.own:
            result = measured[0].result()
            console.say(_comparison(run, scoring, result))
        console.say(f"written to {run.evaluations / suite.name}.json and .parquet")


def _measure(scoring: Scoring, part: Part, stop: StopRequest) -> Judged:
    return scoring.evaluator(part)(scoring.model_for(part), stop=stop.agree)


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
    settings = settings_of(config, trained, record)
    suites, classes = find_suites(config, trained, record, names)
    machine = settle_machine(settings, world)
    model = make_model(settings, num_classes=len(classes), device=machine.device)
    load_weights(model, checkpoint / f"{weights}.safetensors")
    refuse_head(config, model)
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
    names = tried(lambda: _names(config))
    tried(lambda: choose_weights(config.weights, find_checkpoint(config, run)[0]))
    if (record := tried(run.known_record)) is not None:
        for name in names or ():
            tried(lambda name=name: find_suites(config, trained, record, [name]))  # type: ignore[misc]
        tried(lambda: settle_machine(settings_of(config, trained, record)))


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
