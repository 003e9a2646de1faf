"""Who teaches: where the weights are, whether they are for this data, how to make them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitx.checkpoint.store import weights_file
from vitx.config.resolve import load_run_config, resolve, to_plain
from vitx.config.schema import DistillConfig, ModelConfig, TrainConfig
from vitx.config.store import compose
from vitx.data.sources import Splits
from vitx.errors import StorageError, UsageError, VitxError
from vitx.models.build import tag_classes
from vitx.models.of_run import make_model, picture_format
from vitx.models.origin import as_safetensors, download, is_remote
from vitx.models.teacher import Teacher
from vitx.models.transfer import transfer
from vitx.runs import RunDir, classes_of, teachers_dir

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """Where a teacher comes from.

    Attributes:
        config: its model and pictures, as a run of it has them.
        file: its weights; None where they are still to be trained.
        origin: what they are, for a reader.
        run: where it is trained on this dataset; None where its weights came from elsewhere.
        why: why it is trained; empty where it isn't.
    """

    config: TrainConfig
    file: Path | None
    origin: str
    run: RunDir | None = None
    why: str = ""


def plan_teacher(config: DistillConfig, splits: Splits) -> TeacherPlan:
    """Find the teacher of a run.

    Weights that are named have to be of the dataset's classes. A tag or repository may be of
    others, or not to be had: then, as without weights, the teacher is a run of its own on this
    dataset, the same one whenever the same is asked for.

    Args:
        config: the student's configuration.
        splits: the dataset.

    Returns:
        Where the teacher is, or how it is to be trained.

    Raises:
        UsageError: it is for other classes, or for these in another order.
        StorageError: a named run or file can't be had.
    """
    teacher, classes = config.teacher, splits.classes
    if teacher.weights is None:
        return _plan_training(config, splits, why="no weights are named")
    if not is_remote(teacher.weights, name=teacher.name or ""):
        return _plan_local(config, teacher.weights, classes)
    plain = _as_run(config)
    if problem := _other_classes_of_tag(plain.model, classes):
        return _plan_training(config, splits, why=problem, start=teacher.weights)
    try:
        file = download(teacher.weights, name=plain.model.name)
    except StorageError as error:
        return _plan_training(config, splits, why=str(error))
    # It sees colours, normalised as those it was trained on.
    dataset = replace(plain.dataset, channels=3, mean=None, std=None)
    return TeacherPlan(config=replace(plain, dataset=dataset), file=file, origin=teacher.weights)


def refuse_other_teacher(record: dict[str, Any], plan: TeacherPlan) -> str:
    """Refuse to go on with another teacher than the one that a run began with.

    Args:
        record: run.json.
        plan: where the teacher is now.

    Returns:
        The sha256 of its weights; empty where they are still to be trained.

    Raises:
        StorageError: it is another.
    """
    digest = ""
    if plan.file is not None:
        with plan.file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    before = record.get("teacher")
    if before is not None and before["sha256"] != digest:
        now = f"now {digest[:12]}" if digest else "now it would be trained anew"
        raise StorageError(
            f"the teacher is not the one this run learned from ({before['origin']}, sha256 "
            f"{before['sha256'][:12]}, {now}); restore it, or begin a new run"
        )
    return digest


def make_teacher(
    plan: TeacherPlan, config: TrainConfig, *, classes: int, device: torch.device
) -> Teacher:
    """Build a teacher for the pictures of a run.

    Args:
        plan: where it comes from; without a file its weights are random, as a rehearsal wants it.
        config: the student's configuration.
        classes: number of classes.
        device: where it computes.

    Returns:
        The teacher, frozen.

    Raises:
        UsageError: its head is for other classes.
    """
    try:
        model = make_model(plan.config, num_classes=classes, device=device)
    except UsageError as error:
        line = re.sub(r"\b(model|dataset)\.(name|args|image_px)", r"teacher.\2", str(error))
        raise UsageError(line) from error
    if plan.file is not None:
        told = transfer(
            model,
            plan.file,
            source=f"teacher.weights={plan.origin}",
            resize=plan.config.model.pos_resize,
            partial=False,
        )
        if told.head:
            raise UsageError(
                f"teacher.weights={plan.origin}: a teacher needs its head; {told.head}"
            )
    return Teacher(model, given=picture_format(config), wanted=picture_format(plan.config))


def _plan_local(config: DistillConfig, weights: str, classes: Sequence[str]) -> TeacherPlan:
    """Plan with a run or a file."""
    teacher, path = config.teacher, Path(weights)
    if not path.exists():
        raise StorageError(f"teacher.weights={weights}: expected a run, a file of weights or a tag")
    file = weights_file(weights, teacher.run_weights)
    there = classes_of(file)
    if (run := _run_of(path, file)) is not None:
        own = load_run_config(run.config)
        if teacher.name not in (None, own.model.name):
            raise UsageError(
                f"teacher.name={teacher.name}: {weights} is of {own.model.name}; leave it out"
            )
        if teacher.image_px is not None:
            own = replace(own, dataset=replace(own.dataset, image_px=teacher.image_px))
    elif teacher.name is None:
        raise UsageError(f"teacher.name is needed: {weights} does not say of which model it is")
    else:
        own = _as_run(config)
    if there is not None and (problem := _difference(there, classes)):
        raise UsageError(f"teacher.weights={weights}: {problem}")
    return TeacherPlan(config=own, file=as_safetensors(file, name=own.model.name), origin=weights)


def _plan_training(
    config: DistillConfig, splits: Splits, *, why: str, start: str | None = None
) -> TeacherPlan:
    """Plan a run of its own on this dataset, or find the one that there is."""
    training, data = _recipe(config, samples=len(splits.train)), splits.fingerprint()
    # Finished with either start it is found again, whether the start can be had today or not.
    known = {first: _run_for(training, data, first) for first in dict.fromkeys([start, None])}
    for first, run in known.items():
        if run.result.is_file():
            settled = _settled(training, run, first)
            return TeacherPlan(
                config=settled, file=weights_file(str(run.path)), origin=str(run.path), run=run
            )
    begun = [first for first, run in known.items() if run.exists()]
    lost = ""
    if not begun and start is not None:
        lost = _why_not_had(start, training.model.name)
    first = begun[0] if begun else None if lost else start
    run = known[first]
    begins = f"from {first}" if first else "from random weights"
    told = "; ".join(part for part in (why, lost, f"it begins {begins}") if part)
    settled = _settled(training, run, first)
    return TeacherPlan(config=settled, file=None, origin=str(run.path), run=run, why=told)


def _run_for(training: TrainConfig, data: str, start: str | None) -> RunDir:
    """Return the run of a teacher, named by all that decides its weights."""
    named = to_plain(replace(training, dataset=replace(training.dataset, path=None)))
    for setting in ("run_dir", "runtime", "logger"):
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


def _recipe(config: DistillConfig, *, samples: int) -> TrainConfig:
    """Return how a teacher is trained: as `vitx train` does unless told otherwise.

    Nothing of the student's training is in it, so that a sweep over that has one teacher.
    """
    default = resolve(compose("train"), TrainConfig)
    plain = _as_run(config)
    return replace(
        default,
        model=replace(plain.model, weights=None),
        dataset=plain.dataset,
        runtime=replace(config.runtime, micro_batch=None),
        logger=config.logger,
        batch_size=min(default.batch_size, samples),
        epochs=config.teacher.epochs,
    )


def _as_run(config: DistillConfig) -> TrainConfig:
    """Return the student's configuration with the teacher's model."""
    teacher = config.teacher
    assert teacher.name is not None  # noqa: S101 (the configuration was checked)
    kept = {each.name: getattr(config, each.name) for each in dataclasses.fields(TrainConfig)}
    model = ModelConfig(name=teacher.name, weights=teacher.weights, args=teacher.args)
    dataset = replace(config.dataset, image_px=teacher.image_px or config.image_px)
    return TrainConfig(**(kept | {"model": model, "dataset": dataset}))


def _other_classes_of_tag(model: ModelConfig, classes: Sequence[str]) -> str:
    """Return why weights of a tag say nothing of these classes; empty where they do.

    Raises:
        UsageError: they are ImageNet's, in another order.
    """
    count = tag_classes(model.weights or "", name=model.name)
    if count is not None and count != len(classes):
        return f"{model.weights} is for {count} classes, the dataset has {len(classes)}"
    for names in _known_orders(count):
        if set(names) == set(classes) and tuple(names) != tuple(classes):
            raise UsageError(f"teacher.weights={model.weights}: {_difference(names, classes)}")
    return ""


def _difference(there: Sequence[str], here: Sequence[str]) -> str:
    """Return how the classes of a teacher differ from the dataset's; empty where they don't."""
    if tuple(there) == tuple(here):
        return ""
    if len(there) != len(here):
        return f"the teacher knows {len(there)} classes, the dataset has {len(here)}"
    order = "in another order" if sorted(there) == sorted(here) else "others"
    number = next(at for at, pair in enumerate(zip(there, here, strict=True)) if len({*pair}) > 1)
    return (
        f"the classes of the teacher are {order}: class {number} is {there[number]!r}, "
        f"in the dataset {here[number]!r}"
    )


def _run_of(given: Path, file: Path) -> RunDir | None:
    """Return the run that a file of weights belongs to."""
    places = [given, *([file.parents[2]] if file.parent.parent.name == "checkpoints" else [])]
    return next((RunDir(each) for each in places if RunDir(each).exists()), None)


def _known_orders(count: int | None) -> list[list[str]]:
    """Return the names that classes of ImageNet go by, in the order of published weights."""
    if count != _IMAGENET_CLASSES:
        return []
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [list(info.label_names()), list(info.label_descriptions())]
