"""Score a checkpoint as training did, and keep what was said of every sample."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitx.assemble import make_evaluator, make_model, settle_machine
from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import path_of, steps_in
from vitx.commands.report_lines import result_line
from vitx.config.schema import DatasetConfig, EvalConfig, TrainConfig, Weights
from vitx.data.sources import LabelledImages, load_splits, load_val
from vitx.errors import StorageError, UsageError
from vitx.evaluate.loop import PerSample
from vitx.loggers.console import Console
from vitx.models.weights import load_weights
from vitx.records import EvalResult
from vitx.runs import RunDir, check_name, read_json, storage_errors, write_json


def score_run(config: EvalConfig, run: RunDir, trained: TrainConfig) -> EvalResult:
    """Score one checkpoint of a run; write, print and return the result."""
    console = Console()
    suite = check_name(config.suite or "val")
    if config.dataset is not None and suite == "val":
        raise UsageError("suite=NAME is needed: val is what the run was validated on")
    record = run.read_record()
    checkpoint, step = find_checkpoint(config, run)
    weights = choose_weights(config.weights, checkpoint)
    settings = _settings(config, trained, record)
    images, classes, notes = _images(config, trained, record)
    machine = settle_machine(settings)
    model = make_model(settings, num_classes=classes, device=machine.device)
    load_weights(model, checkpoint / f"{weights}.safetensors")
    console.say(f"{checkpoint}, weights {weights}, on {len(images)} pictures of {images.name!r}")
    for note in notes:
        console.say(note)
    result, samples = make_evaluator(settings, images, machine)(model)
    written = {
        **result.as_dict(),
        "suite": suite,
        "step": step,
        "weights": weights,
        "dataset": (config.dataset or trained.dataset).path or "digits",
        "split": images.name,
    }
    with storage_errors(run.evaluations):
        run.evaluations.mkdir(exist_ok=True)
        _write_samples(run.evaluations / f"{suite}.parquet", samples)
    write_json(run.evaluations / f"{suite}.json", written)
    console.say(result_line(written))
    if config.dataset is None:
        console.say(_comparison(run, step=step, weights=weights, written=written))
    console.say(f"written to {run.evaluations / suite}.json and .parquet")
    return result


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
        state = read_json(path_of(run.checkpoints, steps[-1]) / "state.json")
        step = state["callbacks"]["evaluation"]["best_step"] or steps[-1]
    elif config.checkpoint.isdecimal():
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
            trained.evaluation, batch_size=config.batch_size or trained.evaluation.batch_size
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
    recorded = read_json(run.result)
    if recorded["step"] != step or weights not in recorded:
        return f"training recorded its result at step {recorded['step']}"
    names = ("top1", "top5", "loss", "count")
    before = recorded[weights]
    if all(before[name] == written[name] for name in names):
        return "exactly what training recorded"
    return f"training recorded top-1 {before['top1']!r}, loss {before['loss']!r}"


def _write_samples(path: Path, samples: PerSample) -> None:
    columns = {field.name: getattr(samples, field.name) for field in dataclasses.fields(samples)}
    temporary = path.with_name(f".{path.name}")
    pq.write_table(pa.table(columns), temporary)
    temporary.replace(path)
