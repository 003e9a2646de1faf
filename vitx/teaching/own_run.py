"""A teacher that is trained on the student's dataset, as a run of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from vitx.checkpoint.store import weights_file
from vitx.config.resolve import load_run_config, resolve, to_plain
from vitx.config.schema import TrainConfig
from vitx.config.store import compose
from vitx.data.sources import Splits
from vitx.errors import VitxError
from vitx.models.origin import download
from vitx.runs import RunDir, teachers_dir

# Few: those of RegNetY-16GF have 1 GB, and a run that is asked to stop saves by itself.
_SAVE_EVERY = "25%"


@dataclass(frozen=True, kw_only=True)
class OwnRun:
    """The run that a teacher has on this dataset, finished, begun or still to begin.

    Attributes:
        run: its directory.
        config: what it is trained with.
        file: its weights; None until it is finished.
        notes: what a reader should know before it begins.
    """

    run: RunDir
    config: TrainConfig
    file: Path | None
    notes: tuple[str, ...] = ()


def find_own_run(plain: TrainConfig, splits: Splits, *, epochs: str, start: str | None) -> OwnRun:
    """Find the run of a teacher, or say how it is to be made.

    Args:
        plain: the student's configuration with the teacher's model.
        splits: the dataset.
        epochs: length of its training.
        start: weights it is to begin from, where they can be had.

    Returns:
        The finished run with either beginning, else the begun one, else a new one.
    """
    training = _recipe(plain, samples=len(splits.train), epochs=epochs)
    data = f"{splits.fingerprint()} {splits.sample}"
    # Finished with either start it is found again, whether the start can be had today or not.
    known = {first: _run_for(training, data, first) for first in dict.fromkeys([start, None])}
    for first, run in known.items():
        if run.result.is_file():
            settled = _settled(training, run, first)
            return OwnRun(run=run, config=settled, file=weights_file(str(run.path)))
    begun = [first for first, run in known.items() if run.exists()]
    lost = ""
    if not begun and start is not None:
        lost = _why_not_had(start, training.model.name)
    first = begun[0] if begun else None if lost else start
    run = known[first]
    begins = f"it begins from {first}" if first else "it begins from random weights"
    settled = _settled(training, run, first)
    return OwnRun(run=run, config=settled, file=None, notes=(lost, begins))


def _run_for(training: TrainConfig, data: str, start: str | None) -> RunDir:
    """Return the run of a teacher, named by all that decides its weights."""
    named = to_plain(replace(training, dataset=replace(training.dataset, path=None)))
    for setting in ("run_dir", "runtime", "logger", "evaluation", "checkpoint"):
        named.pop(setting)
    named["dataset"].pop("workers")
    digest = hashlib.sha256(json.dumps([named, data, start]).encode()).hexdigest()
    return RunDir(teachers_dir() / f"{training.model.name}-{digest[:12]}")


def _settled(training: TrainConfig, run: RunDir, start: str | None) -> TrainConfig:
    """Return the configuration of a teacher's run.

    One that was begun goes on as it began, but where its data, device and loggers are now.
    """
    if not run.exists():
        model = replace(training.model, weights=start)
        return replace(training, model=model, run_dir=str(run.path))
    before = load_run_config(run.config)
    return replace(
        before,
        dataset=replace(before.dataset, path=training.dataset.path),
        runtime=replace(before.runtime, device=training.runtime.device),
        logger=replace(before.logger, wandb=training.logger.wandb),
        run_dir=str(run.path),
    )


def _why_not_had(weights: str, name: str) -> str:
    try:
        download(weights, name=name)
    except VitxError as error:
        return str(error)
    return ""


def _recipe(plain: TrainConfig, *, samples: int, epochs: str) -> TrainConfig:
    """Return how a teacher is trained: as `vitx train` does unless told otherwise.

    Nothing of the student's training is in it, so that a sweep over that has one teacher.
    """
    default = resolve(compose("train"), TrainConfig)
    batch = min(default.batch_size, samples)
    devices = plain.runtime.devices or 1
    return replace(
        default,
        model=replace(plain.model, weights=None),
        dataset=plain.dataset,
        runtime=replace(
            plain.runtime,
            micro_batch=None,
            exact_world=False,
            devices=1 if batch % devices else plain.runtime.devices,
        ),
        logger=plain.logger,
        checkpoint=replace(default.checkpoint, every=_SAVE_EVERY),
        batch_size=batch,
        epochs=epochs,
    )
