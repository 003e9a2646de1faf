"""Who is asked about a batch: the teachers, or what was stored of them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vitx.config.resolve import to_plain
from vitx.config.schema import (
    Combine,
    DistillConfig,
    Keeping,
    Mixed,
    Teaching,
)
from vitx.data.sources import Splits
from vitx.models.of_run import picture_format
from vitx.objectives.encoding import Encoding, refuse_encoding
from vitx.objectives.lesson import Answer, Lesson
from vitx.objectives.teacher_cache import AnswerStore
from vitx.paths import cache_dir
from vitx.records import Batch, Plan
from vitx.runtime.seeds import derive
from vitx.teaching.build import Hired, Where

Asked = Callable[[Batch], Lesson]
# A batch is mixed by its step, which follows from the length of an epoch.
_MIXES = ("mixup", "cutmix", "mix_prob", "mix_switch_prob", "mix_mode", "epoch_multiple")
# What decides neither the pictures nor, where they are not mixed, what is said of them.
_NOT_OF_PICTURES = (*_MIXES, "label_smoothing", "eval_crop_ratio")
_DECIDES_PICTURES = ("channels", "mirror", "max_pixels", "bad_image")
_LIBRARIES = ("vitx", "torch", "torchvision", "timm", "numpy", "pillow")
_COMPARED_BATCHES = 4


class Tutor:
    """Says what the teachers of a run think of a batch.

    Attributes:
        teachers: who they are.
        stores: where their answers are stored, in the same order; empty where they are not.
    """

    def __init__(
        self,
        teachers: Sequence[Hired],
        asked: Sequence[Asked],
        *,
        draw: bool,
        seed: int,
        stores: Sequence[AnswerStore] = (),
    ) -> None:
        self.teachers, self.stores = teachers, stores
        self._asked, self._draw, self._seed = asked, draw, seed

    def __call__(self, batch: Batch) -> Lesson:
        """Return the lesson about a batch."""
        if self._draw:
            number = derive("teacher", self._seed, batch.place.step) % len(self._asked)
            return self._asked[number](batch)
        return Lesson.average([ask(batch) for ask in self._asked])

    def refuse_small_disk(self, plan: Plan) -> None:
        """Refuse a run whose answers can't be stored.

        Raises:
            StorageError: there is too little room.
        """
        epochs, places = extent(plan)
        for store in self.stores:
            store.refuse_small_disk(epochs, places)

    def lines(self, plan: Plan) -> Iterator[str]:
        """Say what is stored, and what still will be."""
        epochs, places = extent(plan)
        for store in self.stores:
            there, room = store.stored_places(epochs), store.missing_bytes(epochs, places)
            yield (
                f"answers in {store.folder}: {there:,} of {epochs * places:,} are there, "
                f"the rest takes {room / 2**30:.3g} GiB"
            )

    def close(self) -> None:
        """Store what was asked since the last time."""
        for store in self.stores:
            store.flush()


def extent(plan: Plan) -> tuple[int, int]:
    """Return how many different epochs a run has, and how many samples each."""
    epochs = min(plan.epochs, plan.reuse_epochs or plan.epochs)
    return epochs, min(plan.steps_per_epoch, plan.total_steps) * plan.batch_size


def make_tutor(
    teachers: Sequence[Hired],
    config: DistillConfig,
    splits: Splits,
    where: Where,
    *,
    say: Callable[[str], None],
    read_only: bool = False,
) -> Tutor:
    """Have teachers asked as a run wants it.

    Args:
        teachers: on their device.
        config: the student's configuration.
        splits: the dataset.
        where: device and precision.
        say: takes what the user should know.
        read_only: nothing is stored.

    Returns:
        Who is asked.

    Raises:
        UsageError: answers can't be stored as configured.
    """
    draw = config.teacher.combine is Combine.draw and len(teachers) > 1
    if config.teacher.cache is Keeping.none:
        every: list[Asked] = [_AtEachStep(each) for each in teachers]
        return Tutor(teachers, every, draw=draw, seed=config.seed)
    encoding = _encoding(config, classes=len(splits.classes))
    stores = [
        AnswerStore(
            cache_dir() / "answers",
            identity(config, each, splits, where),
            encoding,
            places=len(splits.train),
            say=say,
            read_only=read_only,
        )
        for each in teachers
    ]
    mixes = mixes_answers(config)
    asked: list[Asked] = [
        # What random weights say must not be remembered.
        _Once(each, store, where.device, mixes=mixes, say=say) if each.sha256 else _AtEachStep(each)
        for each, store in zip(teachers, stores, strict=True)
    ]
    return Tutor(teachers, asked, draw=draw, seed=config.seed, stores=stores)


def mixes_answers(config: DistillConfig) -> bool:
    """Return whether the answers to two pictures stand for that to their mixture."""
    stored = config.teacher.cache is Keeping.outputs
    return stored and _is_mixed(config) and config.teacher.mixed is Mixed.mix


def identity(config: DistillConfig, teacher: Hired, splits: Splits, where: Where) -> dict[str, Any]:
    """Return all that decides what a teacher says of the samples of a run, as plain data.

    A batch is part of it where pictures are mixed in it. Where they are not, its size moves the
    last bits of an answer and is left out.
    """
    own, augmentation = teacher.plan.config, to_plain(config.augmentation)
    left_out: Sequence[str] = _NOT_OF_PICTURES
    batch = None
    if _is_mixed(config) and not mixes_answers(config):
        left_out = [name for name in left_out if name not in _MIXES]
        batch = [config.batch_size, config.micro_batch]
    dataset = to_plain(config.dataset)
    return {
        "teacher": {
            "sha256": teacher.sha256,
            "model": to_plain(own.model) | {"weights": None, "run_weights": None},
            "pictures": asdict(picture_format(own)),
            "crop_ratio": teacher.plan.crop_ratio,
        },
        "data": splits.fingerprint(),
        "dataset": {name: dataset[name] for name in _DECIDES_PICTURES},
        "pictures": asdict(picture_format(config)),
        "augmentation": {
            name: value for name, value in augmentation.items() if name not in left_out
        },
        "batch": batch,
        "seed": config.seed,
        "computed": [where.device.type, teacher.model.precision.name],
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _encoding(config: DistillConfig, *, classes: int) -> Encoding:
    teacher, hard = config.teacher, config.distillation.loss is Teaching.hard
    top_k = teacher.top_k
    # Of a mixture the class is not that of either picture.
    if top_k is None and hard and not mixes_answers(config) and not teacher.also:
        top_k = 1
    encoding = Encoding(classes=classes, top_k=top_k, precision=teacher.cache_precision)
    refuse_encoding(encoding, hard=hard)
    return encoding


def _is_mixed(config: DistillConfig) -> bool:
    return config.augmentation.mixup > 0 or config.augmentation.cutmix > 0


class _AtEachStep:
    """Asks a teacher about every batch."""

    def __init__(self, teacher: Hired) -> None:
        self._teacher = teacher.model

    def __call__(self, batch: Batch) -> Lesson:
        return Lesson([(1.0, Answer.of(self._teacher(batch.images)))])


class _Once:
    """Asks a teacher about samples that it was not asked about before.

    Args:
        teacher: who is asked.
        store: where its answers are.
        device: of the batches.
        mixes: the answers to two pictures stand for that to their mixture.
        say: takes how far they are from it.
    """

    def __init__(
        self,
        teacher: Hired,
        store: AnswerStore,
        device: torch.device,
        *,
        mixes: bool,
        say: Callable[[str], None],
    ) -> None:
        self._teacher, self._store, self._device = teacher.model, store, device
        self._mixes, self._say = mixes, say
        self._distances: list[tuple[Tensor, Tensor]] = []

    def __call__(self, batch: Batch) -> Lesson:
        place, encoding = batch.place, self._store.encoding
        mixed = batch.mixed if self._mixes else None
        stored = self._store.read(place.epoch, place.first, len(batch.images))
        if stored is None:
            images = batch.images if mixed is None else mixed.unmixed
            stored = encoding.encode(Answer.of(self._teacher(images)))
            self._store.write(place.epoch, place.first, stored)
        answer = encoding.decode(stored, self._device)
        if mixed is None:
            return Lesson([(1.0, answer)])
        lesson = Lesson([(mixed.share, answer), (1 - mixed.share, answer.reversed())])
        if len(self._distances) < _COMPARED_BATCHES:
            self._compare(lesson, batch.images)
        return lesson

    def _compare(self, lesson: Lesson, images: Tensor) -> None:
        """Say how far the mixed answers are from the answers to mixed pictures."""
        asked = Lesson([(1.0, Answer.of(self._teacher(images)))])
        truth, ours = asked.log_probabilities(), lesson.log_probabilities()
        divergence = (truth.exp() * (truth - ours)).sum(1)
        self._distances.append((divergence, asked.classes != lesson.classes))
        if len(self._distances) == _COMPARED_BATCHES:
            apart, other = (torch.cat(each) for each in zip(*self._distances, strict=True))
            self._say(
                f"teacher.mixed=mix: on {len(apart)} mixed pictures the answers of the teacher to "
                f"the two of them, mixed, name another class than its answer to the mixture for "
                f"{100 * other.float().mean():.1f} %, and are {apart.mean():.3g} nats from it"
            )
