"""Who is asked about a batch: the teachers, or what was stored of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitx.config.schema import (
    Combine,
    DistillConfig,
    Keeping,
    Teaching,
)
from vitx.data.sources import Splits
from vitx.errors import StorageError
from vitx.files import writable_place
from vitx.objectives.encoding import Encoding, refuse_encoding
from vitx.objectives.lesson import Answer, Lesson
from vitx.objectives.teacher_cache import AnswerStore
from vitx.paths import cache_dir
from vitx.records import Batch, Plan
from vitx.runtime.seeds import derive
from vitx.teaching.build import Hired, Where
from vitx.teaching.identity import identity, mixes_answers

Asked = Callable[[Batch], Lesson]
_COMPARED_BATCHES = 4


class Tutor:
    """Says what the teachers of a run think of a batch.

    Attributes:
        teachers: who they are.
        stores: where their answers are stored; empty where they are not.
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
            StorageError: there is too little room, or the place can't be written.
        """
        if not self.stores:
            return
        place, epochs = writable_place(cache_dir()), epochs_of(plan)
        needed = sum(each.missing_bytes(epochs) for each in self.stores)
        free = shutil.disk_usage(place).free
        if needed <= free:
            return
        fitting = int(0.9 * free * epochs / needed)
        remedy = f"teacher.reuse_epochs={fitting} fits" if fitting else "teacher.top_k keeps less"
        raise StorageError(
            f"what the teacher says needs {needed / 2**30:.3g} GiB in {cache_dir()} and "
            f"{free / 2**30:.3g} GiB are free; {remedy}, or point $VITX_CACHE at another disk"
        )

    def lines(self, plan: Plan) -> Iterator[str]:
        """Say what is stored, and what still will be."""
        epochs = epochs_of(plan)
        for store in self.stores:
            there, room = store.stored_places(epochs), store.missing_bytes(epochs)
            all_of = epochs * plan.steps_per_epoch * plan.batch_size
            yield (
                f"answers in {store.folder}: {min(there, all_of):,} of {all_of:,} are there, "
                f"the rest takes at most {room / 2**20:,.1f} MiB"
            )

    def close(self) -> None:
        """Store what was asked since the last time."""
        for store in self.stores:
            store.flush()


def epochs_of(plan: Plan) -> int:
    """Return how many different epochs a run has."""
    return min(plan.epochs, plan.reuse_epochs or plan.epochs)


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
    mixes = mixes_answers(config)
    stores: dict[Path, AnswerStore] = {}
    asked: list[Asked] = []
    for each in teachers:
        store = AnswerStore(
            cache_dir() / "answers",
            identity(config, each, splits, where),
            encoding,
            places=len(splits.train),
            say=say,
            read_only=read_only,
        )
        store = stores.setdefault(store.folder, store)  # one for two that are the same
        # What random weights say must not be remembered.
        known = each.sha256 != ""
        asked.append(
            _Once(each, store, where.device, mixes=mixes, say=say) if known else _AtEachStep(each)
        )
    return Tutor(teachers, asked, draw=draw, seed=config.seed, stores=list(stores.values()))


def _encoding(config: DistillConfig, *, classes: int) -> Encoding:
    teacher, hard = config.teacher, config.distillation.loss is Teaching.hard
    top_k = teacher.top_k
    # The class of a mixture is not that of its parts.
    averaged = bool(teacher.also) and teacher.combine is Combine.average
    if top_k is None and hard and not mixes_answers(config) and not averaged:
        top_k = 1
    encoding = Encoding(classes=classes, top_k=top_k, precision=teacher.cache_precision)
    refuse_encoding(encoding, hard=hard)
    return encoding


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
        stored, asked = self._store.read(place.epoch, place.first, len(batch.images)), False
        if stored is None:
            images = batch.images if mixed is None else mixed.unmixed
            fresh = encoding.encode(Answer.of(self._teacher(images)))
            # Of a batch that was partly there, what was there counts.
            stored = self._store.write(place.epoch, place.first, fresh)
            asked = True
        answer = encoding.decode(stored, self._device)
        if mixed is None:
            return Lesson([(1.0, answer)])
        lesson = Lesson([(mixed.share, answer), (1 - mixed.share, answer.reversed())])
        if asked and len(self._distances) < _COMPARED_BATCHES:
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
