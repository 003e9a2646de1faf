"""Where the teachers of a run are, or how they are to be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitx.checkpoint.store import weights_file
from vitx.config.resolve import from_plain, load_run_config, to_plain
from vitx.config.schema import DistillConfig, ModelConfig, Precision, TeacherSource, TrainConfig
from vitx.data.sources import Splits
from vitx.errors import StorageError, UsageError, VitxError
from vitx.models.origin import HUB, Card, as_safetensors, download, is_remote, read_card
from vitx.runs import RunDir, classes_of
from vitx.runtime.world import World
from vitx.teaching.classes import difference, other_classes_of_tag
from vitx.teaching.own_run import OwnRun, find_own_run


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """Where a teacher comes from.

    Attributes:
        config: its model and pictures, as a run of it has them.
        file: its weights; None where they are still to be trained.
        origin: what they are, for a reader.
        run: where it is trained on this dataset; None where its weights came from elsewhere.
        why: why it is trained; empty where it isn't.
        crop_ratio: share of the side of a picture that it sees.
        precision: arithmetic of its pass, as configured.
    """

    config: TrainConfig
    file: Path | None
    origin: str
    run: RunDir | None = None
    why: str = ""
    crop_ratio: float = 1.0
    precision: Precision = Precision.auto

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data, for another process."""
        return {
            "config": to_plain(self.config),
            "file": None if self.file is None else str(self.file),
            "origin": self.origin,
            "why": self.why,
            "crop_ratio": self.crop_ratio,
            "precision": self.precision.name,
        }

    @classmethod
    def restore(cls, plain: dict[str, Any]) -> TeacherPlan:
        """Return what `as_plain` was made of, but for `run`."""
        return cls(
            **plain
            | {
                "config": from_plain(plain["config"], TrainConfig),
                "file": None if plain["file"] is None else Path(plain["file"]),
                "precision": Precision[plain["precision"]],
            }
        )


def plan_together(config: DistillConfig, splits: Splits, world: World) -> list[TeacherPlan]:
    """Plan on rank 0, which alone has to have the files; see `plan_teachers`."""
    if world.size == 1:
        return plan_teachers(config, splits)
    told = world.first(lambda: [each.as_plain() for each in plan_teachers(config, splits)])
    return [TeacherPlan.restore(each) for each in told]


def plan_teachers(config: DistillConfig, splits: Splits) -> list[TeacherPlan]:
    """Find the teachers of a run.

    Weights that are named have to be of the dataset's classes. A tag or repository may be of
    others, or not to be had: then, as without weights, the teacher is a run of its own on this
    dataset, the same one whenever the same is asked for.

    Args:
        config: the student's configuration.
        splits: the dataset.

    Returns:
        Where each teacher is, or how it is to be trained.

    Raises:
        VitxError: one is for other classes, or for these in another order; a named run or file
            can't be had.
    """
    plans = []
    for number, source in enumerate(config.teacher.sources):
        try:
            plan = _plan(config, source, splits)
        except VitxError as error:
            if number == 0:
                raise
            # The words are those of the first teacher.
            raise type(error)(f"teacher.also[{number - 1}]: {error}") from error
        plans.append(replace(plan, crop_ratio=source.crop_ratio, precision=source.precision))
    return plans


def _plan(config: DistillConfig, source: TeacherSource, splits: Splits) -> TeacherPlan:
    classes = splits.classes
    if source.weights is None:
        return _trained_here(config, source, splits, why="no weights are named")
    if source.weights.startswith(HUB):
        return _plan_repository(config, source, splits)
    if not is_remote(source.weights, name=source.name or ""):
        return _plan_local(config, source, classes)
    plain = _as_run(config, source)
    if problem := other_classes_of_tag(plain.model, classes):
        return _trained_here(config, source, splits, why=problem, start=source.weights)
    try:
        file = download(source.weights, name=plain.model.name)
    except StorageError as error:
        return _trained_here(config, source, splits, why=_of_teacher(error))
    return TeacherPlan(config=_in_colour(plain), file=file, origin=source.weights)


def _plan_repository(config: DistillConfig, source: TeacherSource, splits: Splits) -> TeacherPlan:
    """Plan with a repository of the Hub, which may say itself what it holds."""
    weights = str(source.weights)
    try:
        card = read_card(weights)
        source = _described(source, card)
        why = _other_classes_of_card(card, weights, splits.classes)
        file = None if why else download(weights, name=str(source.name))
    except StorageError as error:
        if source.name is None:  # nobody could say what is to be trained
            raise StorageError(_of_teacher(error)) from error
        return _trained_here(config, source, splits, why=_of_teacher(error))
    if why:
        return _trained_here(config, source, splits, why=why, start=weights)
    plain = _in_colour(_as_run(config, source))
    dataset = replace(plain.dataset, mean=card.mean, std=card.std)
    return TeacherPlan(config=replace(plain, dataset=dataset), file=file, origin=weights)


def _described(source: TeacherSource, card: Card) -> TeacherSource:
    """Return a source with what was not typed as the repository says it.

    Raises:
        UsageError: neither says of which model the weights are.
    """
    name = source.name or card.architecture
    if name is None:
        raise UsageError(
            f"teacher.name is needed: {source.weights} does not say of which model it is"
        )
    own = name == card.architecture
    return replace(
        source,
        name=name,
        args=source.args or (card.args if own else {}),
        patch_px=source.patch_px or (card.patch_px if own else None),
        image_px=source.image_px or (card.image_px if own else None),
    )


def _other_classes_of_card(card: Card, weights: str, classes: Sequence[str]) -> str:
    """Return why a repository says nothing of these classes; empty where it does.

    Raises:
        UsageError: it knows these classes in another order.
    """
    if card.classes is not None and sorted(card.classes) == sorted(classes):
        if problem := difference(card.classes, classes):
            raise UsageError(f"teacher.weights={weights}: {problem}")
    elif card.classes is not None:
        return f"{weights}: {difference(card.classes, classes)}"
    elif card.num_classes not in (None, len(classes)):
        return f"{weights} is for {card.num_classes} classes, the dataset has {len(classes)}"
    return ""


def _plan_local(
    config: DistillConfig, source: TeacherSource, classes: Sequence[str]
) -> TeacherPlan:
    """Plan with a run or a file."""
    weights = str(source.weights)
    path = Path(weights)
    if not path.exists():
        raise StorageError(f"teacher.weights={weights}: expected a run, a file of weights or a tag")
    file = weights_file(weights, source.run_weights)
    there = classes_of(file)
    if (run := _run_of(path, file)) is not None:
        own = load_run_config(run.config)
        if source.name not in (None, own.model.name):
            raise UsageError(
                f"teacher.name={source.name}: {weights} is of {own.model.name}; leave it out"
            )
        if source.image_px is not None:
            own = replace(own, dataset=replace(own.dataset, image_px=source.image_px))
    elif source.name is None:
        raise UsageError(f"teacher.name is needed: {weights} does not say of which model it is")
    else:
        own = _as_run(config, source)
    if there is not None and (problem := difference(there, classes)):
        raise UsageError(f"teacher.weights={weights}: {problem}")
    return TeacherPlan(config=own, file=as_safetensors(file, name=own.model.name), origin=weights)


def _trained_here(
    config: DistillConfig,
    source: TeacherSource,
    splits: Splits,
    *,
    why: str,
    start: str | None = None,
) -> TeacherPlan:
    """Plan a run of its own on this dataset, or with the one that there is."""
    own: OwnRun = find_own_run(
        _as_run(config, source),
        splits,
        epochs=source.epochs,
        start=start,
    )
    if own.file is not None:
        return TeacherPlan(config=own.config, file=own.file, origin=str(own.run.path), run=own.run)
    told = "; ".join(part for part in (why, *own.notes) if part)
    return TeacherPlan(
        config=own.config, file=None, origin=str(own.run.path), run=own.run, why=told
    )


def _as_run(config: DistillConfig, source: TeacherSource) -> TrainConfig:
    """Return the student's configuration with the teacher's model."""
    assert source.name is not None  # noqa: S101 (the configuration was checked)
    kept = {each.name: getattr(config, each.name) for each in dataclasses.fields(TrainConfig)}
    model = ModelConfig(
        name=source.name,
        weights=source.weights,
        patch_px=source.patch_px,
        args=source.args,
    )
    dataset = replace(config.dataset, image_px=source.image_px or config.image_px)
    return TrainConfig(**(kept | {"model": model, "dataset": dataset}))


def _in_colour(plain: TrainConfig) -> TrainConfig:
    """Return a configuration of colours, normalised as the published weights were trained."""
    return replace(plain, dataset=replace(plain.dataset, channels=3, mean=None, std=None))


def _of_teacher(error: Exception) -> str:
    return str(error).replace("model.weights=", "teacher.weights=")


def _run_of(given: Path, file: Path) -> RunDir | None:
    """Return the run that a file of weights belongs to."""
    places = [given, *([file.parents[2]] if file.parent.parent.name == "checkpoints" else [])]
    return next((RunDir(each) for each in places if RunDir(each).exists()), None)
