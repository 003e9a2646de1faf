"""Suites that are sets of files: ImageNet's validation and what was made to be measured beside it.

Each is found where its settings say, and checked for what it has to be before anything is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitx.config.schema import DatasetConfig
from vitx.data.class_folder import read_class_folder
from vitx.data.images import LabelledImages
from vitx.errors import DataError
from vitx.evaluate.judging import Rules
from vitx.evaluate.suites.imagenet import (
    CLASSES,
    VAL_IMAGES,
    in_published_order,
    listed_classes,
    real_labels,
    val_number,
    wnids,
)
from vitx.evaluate.suites.suite import Part, Suite

_LEAST_AGREEMENT = 0.7
"""Share of ReaL's labels that have the original one among them; it is 0.89 of all."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What suites are found by.

    Attributes:
        classes: names of the model's classes, in their order.
        own: the split that the run was validated on.
        config: how pictures are read.
        data: directory below which the suites lie; None where only `paths` say.
        paths: directories of single suites.
        partial: sets that lack pictures are measured all the same.
        sizes_px: sides of the pictures that `resolution` shows.
        corruptions: names of those that are made or read; empty for the 15 common ones.
        severities: likewise; empty for all five.
    """

    classes: tuple[str, ...]
    own: Callable[[], LabelledImages]
    config: DatasetConfig
    data: Path | None
    paths: dict[str, str]
    partial: bool = False
    sizes_px: tuple[int, ...] = ()
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()

    def folder(self, name: str, usual: str, layout: str) -> Path:
        """Return the directory of a suite.

        Args:
            name: of the suite.
            usual: its directory below `data`.
            layout: what is in it, for the error.

        Raises:
            DataError: nothing says where it is, or it is not there.
        """
        if name in self.paths:
            folder, said = Path(self.paths[name]).expanduser(), f"paths.{name}={self.paths[name]}"
        elif self.data is not None:
            folder, said = self.data.expanduser() / usual, f"data={self.data}"
        else:
            raise DataError(
                f"suite={name}: nothing says where its pictures are; expected {layout}; type "
                f"paths.{name}=DIR, or data=DIR with {usual}/ in it"
            )
        if not folder.is_dir():
            raise DataError(f"suite={name}: {said}: no directory {folder}; expected {layout}")
        return folder


@dataclass(frozen=True, kw_only=True)
class _Set:
    """A published set of class folders.

    Attributes:
        what: it is, and where it is described.
        usual: its directory below `data`.
        pictures: how many it has.
        of_class: how many each class has; None where they differ.
        numbered: its folders are called by class number, not by WordNet id.
        listed: only the classes of this list count.
    """

    what: str
    usual: str
    pictures: int
    of_class: int | None = None
    numbered: bool = False
    listed: str | None = None


_SETS = {
    "imagenet": _Set(
        what="ImageNet-1k validation",
        usual="imagenet/val",
        pictures=VAL_IMAGES,
        of_class=50,
    ),
    "v2": _Set(
        what="ImageNet-V2, matched frequency (arXiv 1902.10811)",
        usual="imagenetv2-matched-frequency-format-val",
        pictures=10_000,
        of_class=10,
        numbered=True,
    ),
    "a": _Set(
        what="ImageNet-A, scored among its 200 classes (arXiv 1907.07174)",
        usual="imagenet-a",
        pictures=7_500,
        listed="a",
    ),
    "r": _Set(
        what="ImageNet-R, scored among its 200 classes (arXiv 2006.16241)",
        usual="imagenet-r",
        pictures=30_000,
        listed="r",
    ),
    "sketch": _Set(what="ImageNet-Sketch (arXiv 1905.13549)", usual="sketch", pictures=50_889),
}


def published(name: str, given: Given) -> Suite:
    """Find a published set.

    Returns:
        It, with lines that say what it lacks where it may.

    Raises:
        DataError: it is not there, not whole, or the model's classes are others.
    """
    one = _SETS[name]
    refuse_other_classes(name, given.classes)
    names = tuple(map(str, range(CLASSES))) if one.numbered else wnids()
    folders = "0 to 999" if one.numbered else "n01440764 and so on"
    layout = f"{one.pictures:,} pictures in folders {folders}, one for each class"
    folder = given.folder(name, one.usual, layout)
    images, notes = read_class_folder(folder, names=names, name=name, config=given.config)
    among = None if one.listed is None else listed_classes(one.listed)
    notes += _incomplete(name, images, one, among, partial=given.partial)
    part = Part(images=images, rules=Rules(among=among))
    return Suite(name=name, what=one.what, parts=[part], notes=notes)


def real(given: Given) -> Suite:
    """Find ImageNet's validation images and join them with ReaL's labels.

    Returns:
        Those that have a label, right where the prediction is one of them.

    Raises:
        DataError: as of `published`, or images can't be joined.
    """
    suite = published("imagenet", given)
    images = suite.parts[0].images
    scored, accepted = with_real_labels(images)
    without = len(images) - len(scored)
    return Suite(
        name="real",
        what="ImageNet-1k validation with ReaL's labels (arXiv 2006.07159)",
        parts=[Part(images=scored, rules=Rules(accepted=accepted))],
        several_labels=True,
        notes=(*suite.notes, f"{without} of {len(images)} images have no label in ReaL"),
    )


def with_real_labels(images: LabelledImages) -> tuple[LabelledImages, list[tuple[int, ...]]]:
    """Join validation images with ReaL's labels by their file names.

    Args:
        images: of ImageNet's validation, whole or in part.

    Returns:
        Those that ReaL has a label for, and the classes that are right for each of them.

    Raises:
        DataError: some can't be joined, are there twice, or are other images.
    """
    numbers, labels = _joined(images), real_labels()
    kept = np.array([bool(labels[number]) for number in numbers])
    scored = replace(images.chosen(kept), name="real")
    accepted = [labels[number] for number, keep in zip(numbers, kept, strict=True) if keep]
    agreed = np.mean([own in right for own, right in zip(scored.labels, accepted, strict=True)])
    if agreed < _LEAST_AGREEMENT:
        raise DataError(
            f"suite=real: {100 * agreed:.0f} % of its labels have the original one among them, "
            "and 89 % should: these are other images, or their names were given anew"
        )
    return scored, accepted


def _joined(images: LabelledImages) -> list[int]:
    """Return each image's number in the order of the file names of the whole validation set."""
    names = images.file_names()
    numbers = [val_number(name) for name in names]
    found = [number for number in numbers if number is not None and number < VAL_IMAGES]
    if len(found) < len(names):
        strange = next(
            name
            for name, number in zip(names, numbers, strict=True)
            if number is None or number >= VAL_IMAGES
        )
        raise DataError(
            f"suite=real: {len(names) - len(found)} of {len(names)} images can't be joined with "
            f"ReaL's labels, such as {strange!r}: expected ILSVRC2012_val_00000001.JPEG to "
            "ILSVRC2012_val_00050000.JPEG"
        )
    if twice := [number for number, times in Counter(found).items() if times > 1]:
        raise DataError(
            f"suite=real: {len(twice)} images are there more than once, such as "
            f"ILSVRC2012_val_{twice[0] + 1:08d}.JPEG"
        )
    return found


def refuse_other_classes(name: str, classes: Sequence[str]) -> None:
    """Refuse a suite of ImageNet for a model whose classes are not ImageNet's, in their order.

    Raises:
        DataError: so it is.
    """
    if in_published_order(classes):
        return
    if len(classes) != CLASSES:
        got = f"the model has {len(classes)}"
    else:
        first = next(n for n, (a, b) in enumerate(zip(classes, wnids(), strict=True)) if a != b)
        same = set(classes) == set(wnids())
        order = "the same ones in another order" if same else "others"
        got = f"the model has {order}: class {first} is {classes[first]!r}, not {wnids()[first]!r}"
    raise DataError(f"suite={name}: expected the 1000 classes of ImageNet in their order; {got}")


def _incomplete(
    name: str, images: LabelledImages, one: _Set, among: tuple[int, ...] | None, *, partial: bool
) -> tuple[str, ...]:
    """Return what a set lacks, as lines; refuse it unless it may be partial."""
    counts = np.bincount(images.labels, minlength=CLASSES)
    expected = range(CLASSES) if among is None else among
    if others := sorted(set(np.flatnonzero(counts).tolist()) - set(expected)):
        raise DataError(
            f"suite={name}: pictures of {len(others)} classes that it has not, such as "
            f"{wnids()[others[0]]}"
        )
    lines = []
    if len(images) != one.pictures:
        lines.append(f"{len(images):,} of {one.pictures:,} pictures are there")
    if absent := [number for number in expected if not counts[number]]:
        lines.append(f"none of {len(absent)} classes, such as {wnids()[absent[0]]}")
    elif one.of_class is not None and (odd := np.flatnonzero(counts != one.of_class)).size:
        first = int(odd[0])
        lines.append(
            f"{len(odd)} classes have not {one.of_class}, such as {wnids()[first]} with "
            f"{counts[first]}"
        )
    if lines and not partial:
        raise DataError(
            f"suite={name}: {'; '.join(lines)}; complete it, or type partial=true to measure what "
            "there is"
        )
    return tuple(f"{name} is not whole: {line}" for line in lines)
