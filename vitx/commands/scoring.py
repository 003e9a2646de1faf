"""Score a checkpoint as training did, and keep what was said of every sample."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import path_of, steps_in
from vitx.commands.report_lines import head_lines, result_line
from vitx.config.schema import DatasetConfig, EvalConfig, TrainConfig, Weights
from vitx.data.sources import LabelledImages, load_splits, load_val
from vitx.errors import Problems, StorageError, UsageError
from vitx.evaluate.loop import EvaluationStopped, PerSample
from vitx.files import read_json, storage_errors, writable_place, write_json
from vitx.foreign_run import as_written
from vitx.loggers.console import Console
from vitx.models import heads
from vitx.models.of_run import make_model
from vitx.models.weights import load_weights
from vitx.parts import Machine, make_evaluator, settle_machine
from vitx.records import EvalResult
from vitx.runs import RunDir, check_name
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World

_STEP = re.compile(r"[0-9]{1,8}")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A checkpoint and a split, ready to be scored.

    Attributes:
        config: the run's settings with what evaluation may change.
        suite: name of the result.
        checkpoint: its folder.
        step: its step.
        weights: `model` or `ema`.
        images: the split.
        notes: lines the user should read.
        machine: where it is computed.
        model: on its device, with those weights.
    """

    config: TrainConfig
    suite: str
    checkpoint: Path
    step: int
    weights: str
    images: LabelledImages
    notes: tuple[str, ...]
    machine: Machine
    model: nn.Module

    def lines(self) -> Iterator[str]:
        """Say what is scored."""
        images = self.images
        yield (
            f"{self.checkpoint}, weights {self.weights}, on {len(images)} pictures of "
            f"{images.name!r}"
        )
        yield from self.notes


def score_run(
    config: EvalConfig, run: RunDir, trained: TrainConfig, stop: StopRequest, world: World = ALONE
) -> EvalResult:
    """Score one checkpoint of a run, by all ranks; write and print the result.

    Returns:
        The counts.

    Raises:
        Preempted, Interrupted: asked to stop; nothing was written.
        VitxError: a part of it can't be had.
    """
    console = Console(quiet=not world.leads)
    world.first(lambda: str(writable_place(run.evaluations)))  # else it is measured in vain
    scoring = prepare(config, run, trained, world)
    for line in scoring.lines():
        console.say(line)
    world.started()  # from now on one that hangs is missed as soon as in training
    suite, step, weights = scoring.suite, scoring.step, scoring.weights
    evaluator = make_evaluator(scoring.config, scoring.images, scoring.machine)
    try:
        result, samples = evaluator(scoring.model, stop=stop.agree)
    except EvaluationStopped:
        raise stop.as_error("in the evaluation; nothing was written") from None
    if not world.leads:
        return result
    written = {
        **result.as_dict(),
        "suite": suite,
        "step": step,
        "weights": weights,
        "dataset": (config.dataset or trained.dataset).path or "digits",
        "split": scoring.images.name,
    }
    if result.heads:
        written["head"] = scoring.config.evaluation.head.name
    with storage_errors(run.evaluations):
        run.evaluations.mkdir(exist_ok=True)
        _write_samples(run.evaluations / f"{suite}.parquet", samples)
    write_json(run.evaluation(suite), written)
    console.say(result_line(written))
    for line in head_lines(written):
        console.say(line)
    if config.dataset is None:
        console.say(_comparison(run, step=step, weights=weights, written=written))
    console.say(f"written to {run.evaluations / suite}.json and .parquet")
    return result


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
    suite, record = _suite(config), run.known_record()
    checkpoint, step = find_checkpoint(config, run)
    weights = choose_weights(config.weights, checkpoint)
    settings = _settings(config, trained, record)
    images, classes, notes = _images(config, trained, record)
    machine = settle_machine(settings, world)
    model = make_model(settings, num_classes=classes, device=machine.device)
    load_weights(model, checkpoint / f"{weights}.safetensors")
    _refuse_head(config, model)
    return Scoring(
        config=settings,
        suite=suite,
        checkpoint=checkpoint,
        step=step,
        weights=weights,
        images=images,
        notes=notes,
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
    tried(lambda: _suite(config))
    tried(lambda: choose_weights(config.weights, find_checkpoint(config, run)[0]))
    if (record := tried(run.known_record)) is not None:
        tried(lambda: _images(config, trained, record))
        tried(lambda: settle_machine(_settings(config, trained, record)))


def _suite(config: EvalConfig) -> str:
    suite = check_name(config.suite or "val")
    if config.dataset is not None and suite == "val":
        raise UsageError("suite=NAME is needed: val is what the run was validated on")
    return suite


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


def _images(
    config: EvalConfig, trained: TrainConfig, record: dict[str, Any]
) -> tuple[LabelledImages, int, tuple[str, ...]]:
    if config.dataset is None:
        own = load_splits(trained.dataset)
        return own.val, len(own.classes), own.notes
    # The data it was trained on need not be here.
    classes = record.get("classes") or load_splits(trained.dataset).classes
    other: DatasetConfig = config.dataset
    found = load_val(other, classes=classes)
    return found.val, len(classes), found.notes


def _comparison(run: RunDir, *, step: int, weights: str, written: dict[str, Any]) -> str:
    if not run.result.is_file():
        return "training is not finished: there is no recorded result to compare with"
    recorded = run.read_result()
    if recorded["step"] != step or weights not in recorded:
        return f"training recorded its result at step {recorded['step']}"
    names = ("top1", "top5", "loss", "count")
    before = recorded[weights]
    before = before.get("heads", {}).get(written.get("head"), before)
    with as_written(run.result):
        if all(before[name] == written[name] for name in names):
            return "exactly what training recorded"
    return f"training recorded top-1 {before['top1']!r}, loss {before['loss']!r}"


def _write_samples(path: Path, samples: PerSample) -> None:
    columns = {field.name: getattr(samples, field.name) for field in dataclasses.fields(samples)}
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    try:
        pq.write_table(pa.table(columns), temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # how it went is not hidden by it
            temporary.unlink(missing_ok=True)
