"""A configured dataset as two splits of encoded pictures and checked labels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.digits import read_digits
from vitx.data.folder import read_folder
from vitx.data.found import VAL_SPLITS, Found, FoundSplit, listed
from vitx.data.hub import read_hub
from vitx.data.images import LabelledImages
from vitx.data.labels import class_names, class_numbers, is_text
from vitx.errors import DataError, UsageError

__all__ = ["LabelledImages", "Splits", "ValSplit", "load_splits", "load_val"]

_DRAW_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a run trains on and is measured on.

    Attributes:
        train: training pictures.
        val: validation pictures.
        classes: names of the C classes, in order.
        notes: lines the user should read.
    """

    train: LabelledImages
    val: LabelledImages
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the data, not with the machine."""
        digest = hashlib.sha256()
        digest.update("\0".join(self.classes).encode())
        for split in (self.train, self.val):
            digest.update(f"\0{len(split)}\0".encode())
            digest.update(split.labels.astype("<i8").tobytes())
            digest.update(split.contents())
        return digest.hexdigest()[:16]

    @cached_property
    def sample(self) -> str:
        """A digest of the bytes of some training pictures; see `LabelledImages.sample`."""
        return self.train.sample().hex()


@dataclass(frozen=True, kw_only=True)
class ValSplit:
    """What a trained model is measured on; fields as in `Splits`."""

    val: LabelledImages
    notes: tuple[str, ...]


def load_splits(config: DatasetConfig) -> Splits:
    """Find the configured dataset, scan its labels, and hold a part out where it has no val split.

    Args:
        config: the dataset.

    Returns:
        Both splits. Pictures are not decoded here.

    Raises:
        DataError: the dataset can't be had, or a label is wrong.
        UsageError: settings that contradict each other.
    """
    found = _find(config, val_only=False)
    split, notes = _present(found.train), list(found.notes)
    classes = class_names(
        split.labels, names=split.names, num_classes=config.num_classes, where=split.where
    )
    train = _scan(split, classes)
    if found.val is None:
        train, val = _hold_out(train, classes, config.hold_out, notes)
        _note_absent(val, classes, notes)
    else:
        if is_text(split.labels) and not (found.val.names or is_text(found.val.labels)):
            raise DataError(f"{found.val.where} are numbers, but those of training are names")
        val = _scan(found.val, classes)
        if config.val_split is None and val.name == "test":
            notes.append("no validation split: measured on 'test'")
        _note_absent(val, classes, notes)
    return Splits(
        train=_limited(train, config.limit, notes),
        val=_limited(val, config.limit, notes),
        classes=classes,
        notes=tuple(notes),
    )


def load_val(config: DatasetConfig, *, classes: Sequence[str]) -> ValSplit:
    """Find the validation split of a dataset that need not have another.

    Args:
        config: the dataset.
        classes: names of the classes of the model to be measured, in order.

    Returns:
        The named split; else val, validation, valid or test; else the only one there is.

    Raises:
        DataError: the dataset can't be had, a label is wrong, or the classes are others.
    """
    found = _find(config, val_only=True)
    notes = list(found.notes)
    val = _scan(_present(found.val), tuple(classes))
    if val.name not in VAL_SPLITS and config.val_split is None:
        notes.append(f"measured on {val.name!r}, the only split there is")
    _note_absent(val, classes, notes)
    return ValSplit(val=_limited(val, config.limit, notes), notes=tuple(notes))


def _find(config: DatasetConfig, *, val_only: bool) -> Found:
    if config.kind is DatasetKind.digits:
        return read_digits(config)
    read = read_folder if config.kind is DatasetKind.folder else read_hub
    return read(config, val_only=val_only)


def _present(split: FoundSplit | None) -> FoundSplit:
    if split is None:
        raise AssertionError("a reader returns the split it was asked for")
    return split


def _scan(split: FoundSplit, classes: tuple[str, ...]) -> LabelledImages:
    if split.names is not None and split.names != classes:
        raise DataError(f"{split.where}: {_difference(split.names, classes)}")
    return LabelledImages(
        name=split.name,
        data=split.data,
        image_column=split.image_column,
        labels=class_numbers(split.labels, classes=classes, where=split.where),
    )


def _difference(names: Sequence[str], classes: Sequence[str]) -> str:
    if len(names) != len(classes):
        return f"expected the {len(classes)} classes of training, got {len(names)}"
    number = next(n for n, pair in enumerate(zip(names, classes, strict=True)) if len({*pair}) > 1)
    order = "in another order" if sorted(names) == sorted(classes) else "others"
    return (
        f"expected the classes of training, got {order}: "
        f"class {number} is {names[number]!r}, not {classes[number]!r}"
    )


def _note_absent(val: LabelledImages, classes: Sequence[str], notes: list[str]) -> None:
    counts = np.bincount(val.labels, minlength=len(classes))
    absent = [classes[int(number)] for number in np.flatnonzero(counts == 0)]
    if absent:
        notes.append(f"{val.name} has no picture of {listed(absent)}")


def _hold_out(
    images: LabelledImages, classes: Sequence[str], share: float, notes: list[str]
) -> tuple[LabelledImages, LabelledImages]:
    if not 0 < share < 1:
        raise UsageError(f"dataset.hold_out={share}: expected a share between 0 and 1")
    counts = np.bincount(images.labels, minlength=len(classes))
    if counts.max() < 2:
        raise DataError(
            f"{images.name}: no validation split, and a hold-out needs two pictures of a class"
        )
    held = np.zeros(len(images), bool)
    for rows in _shuffled_by_class(images):
        size = min(max(1, round(share * len(rows))), len(rows) - 1)  # a single one stays
        held[rows[:size]] = True
    notes.append(
        f"no validation split: {held.sum()} of the {len(images)} rows of {images.name} are held "
        f"out, stratified (dataset.hold_out={share})"
    )
    return images.chosen(~held), images.chosen(held)


def _limited(images: LabelledImages, limit: int | None, notes: list[str]) -> LabelledImages:
    """Return at most so many pictures, of every class about as many, the same ones every time."""
    if limit is None or limit >= len(images):
        return images
    kept = np.zeros(len(images), bool)
    turns = itertools.zip_longest(*_shuffled_by_class(images))
    in_turn = (row for turn in turns for row in turn if row is not None)
    kept[list(itertools.islice(in_turn, limit))] = True
    notes.append(f"{limit} of the {len(images)} rows of {images.name}, stratified (dataset.limit)")
    return images.chosen(kept)


def _shuffled_by_class(images: LabelledImages) -> list[npt.NDArray[np.int64]]:
    """Return the places of each class that has any, in an order that never changes."""
    # RandomState, because numpy promises that its stream never changes.
    draw = np.random.RandomState(_DRAW_SEED)
    order = np.argsort(images.labels, kind="stable")
    ends = np.cumsum(np.bincount(images.labels))[:-1]
    return [draw.permutation(rows) for rows in np.split(order, ends) if len(rows)]
