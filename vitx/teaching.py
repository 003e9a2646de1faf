"""Who teaches: where the weights are, whether they are for this data, how to make them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from vitx.paths import runs_dir
from vitx.runs import RunDir, classes_of

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
    try:
        if problem := _other_classes_of_tag(plain.model, classes):
            return _plan_training(config, splits, why=problem, start=teacher.weights)
        file = download(teacher.weights, name=plain.model.name)
    except StorageError as error:
        return _plan_training(config, splits, why=str(error))
    # It sees colours, normalised as those it was trained on.
    dataset = replace(plain.dataset, channels=3, mean=None, std=None)
    return TeacherPlan(config=replace(plain, dataset=dataset), file=file, origin=teacher.weights)


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
    model = make_model(plan.config, num_classes=classes, device=device)
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
    training = _recipe(config, samples=len(splits.train))
    named = to_plain(replace(training, dataset=replace(training.dataset, path=None)))
    for setting in ("run_dir", "runtime", "logger"):
        named.pop(setting)
    named["dataset"].pop("workers")
    digest = hashlib.sha256(json.dumps([named, splits.fingerprint()]).encode()).hexdigest()
    run = RunDir(runs_dir() / "teachers" / f"{training.model.name}-{digest[:12]}")
    training = replace(training, run_dir=str(run.path))
    if run.exists():
        training = replace(load_run_config(run.config), run_dir=str(run.path))
    if run.result.is_file():
        file = weights_file(str(run.path))
        return TeacherPlan(config=training, file=file, origin=str(run.path), run=run)
    if start is not None and not run.exists() and _can_be_had(start, training.model.name):
        training = replace(training, model=replace(training.model, weights=start))
    return TeacherPlan(config=training, file=None, origin=str(run.path), run=run, why=why)


def _can_be_had(weights: str, name: str) -> bool:
    try:
        download(weights, name=name)
    except VitxError:
        return False
    return True


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
