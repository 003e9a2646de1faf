"""Common corruptions: of any split, made on the fly; and of ImageNet, as published files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vitx.config.schema import EvalCrop
from vitx.data.class_folder import read_class_folder
from vitx.errors import DataError, UsageError, near_matches
from vitx.evaluate.corruptions import COMMON, CORRUPTIONS, SEVERITIES, corruptor
from vitx.evaluate.corruptions.mce import of_pictures
from vitx.evaluate.judging import PerSample
from vitx.evaluate.suites.imagenet import VAL_IMAGES, in_published_order, wnids
from vitx.evaluate.suites.published import Given, refuse_other_classes
from vitx.evaluate.suites.suite import Part, Place, Suite

Conclude = Callable[[Sequence[PerSample]], Mapping[str, Any]]

_SEED = 0
_PAPER = "Hendrycks and Dietterich, arXiv 1903.12261"


def on_the_fly(given: Given) -> Suite:
    """Return the run's own split under each corruption at each severity.

    Corrupted is what the model would be shown of a picture; the draws follow from its row, the
    corruption and the severity.
    """
    images = given.own()
    parts = [
        Part(
            images=images,
            place={"corruption": name, "severity": severity},
            change=corruptor(name, severity, _SEED),
        )
        for name, severity in _wanted(given)
    ]
    return Suite(
        name="corrupted",
        what=f"{len(images)} pictures of {images.name!r} corrupted in {len(parts)} ways ({_PAPER})",
        parts=parts,
        conclude=_scores(parts, beside_alexnet=in_published_order(given.classes)),
    )


def from_files(given: Given) -> Suite:
    """Find ImageNet-C: `<corruption>/<severity>/<WordNet id>/` of 50,000 pictures each.

    Returns:
        The suite; pictures are shown as they are, of 224 px.

    Raises:
        DataError: a part is missing or not whole, or the model's classes are others.
    """
    refuse_other_classes("c", given.classes)
    layout = "gaussian_noise/1/n01440764/ and so on, the published files unpacked"
    root, parts, notes = given.folder("c", "imagenet-c", layout), list[Part](), list[str]()
    for name, severity in _wanted(given):
        folder = root / name / str(severity)
        images, found = read_class_folder(
            folder, names=wnids(), name=f"{name} {severity}", config=given.config
        )
        if len(images) != VAL_IMAGES:
            lack = f"{name} {severity}: {len(images):,} of {VAL_IMAGES:,} pictures are there"
            if not given.partial:
                raise DataError(f"suite=c: {lack}; complete it, or type partial=true")
            notes.append(lack)
        place: Place = {"corruption": name, "severity": severity}
        parts.append(Part(images=images, place=place, crop=EvalCrop.c1000))
        notes += found
    return Suite(
        name="c",
        what=f"ImageNet-C, {len(parts)} ways ({_PAPER})",
        parts=parts,
        notes=tuple(notes),
        conclude=_scores(parts, beside_alexnet=True),
    )


def _wanted(given: Given) -> list[tuple[str, int]]:
    """Return corruptions and severities that are asked for.

    Raises:
        UsageError: there is none of a name or number.
    """
    for name in given.corruptions:
        if name not in CORRUPTIONS:
            raise UsageError(
                f"corruptions={name}: no such corruption{near_matches(name, CORRUPTIONS)}"
            )
    for severity in given.severities:
        if severity not in SEVERITIES:
            raise UsageError(f"severities={severity}: expected 1 (weak) to 5 (strong)")
    return [
        (name, severity)
        for name in given.corruptions or COMMON
        for severity in given.severities or SEVERITIES
    ]


def _scores(parts: Sequence[Part], *, beside_alexnet: bool) -> Conclude:
    """Return what makes the mean corruption error of the parts' samples."""
    places = [part.place for part in parts]

    def conclude(measured: Sequence[PerSample]) -> Mapping[str, Any]:
        wrong: dict[str, list[np.ndarray]] = defaultdict(list)
        for place, samples in zip(places, measured, strict=True):
            wrong[str(place["corruption"])].append(~samples.correct)
        whole = all(len(rows) == len(SEVERITIES) for rows in wrong.values())
        alike = len({len(row) for rows in wrong.values() for row in rows}) == 1
        if not whole or not alike or len(measured[0]) < 2:
            return {}
        scores = of_pictures(
            {name: np.array(rows) for name, rows in wrong.items()},
            beside_alexnet=beside_alexnet and set(wrong) == set(COMMON),
        )
        return {"corruptions": scores.as_dict()}

    return conclude
