"""Suites of the run's own split, or of any other: as it is, at other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from vitx.data.images import LabelledImages
from vitx.evaluate.suites.suite import Part, Suite

_FACTORS = (0.5, 0.65, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)


def as_it_is(name: str, images: LabelledImages, notes: tuple[str, ...] = ()) -> Suite:
    """Return the suite of one split."""
    what = f"{len(images)} pictures of {images.name!r}"
    return Suite(name=name, what=what, parts=[Part(images=images)], notes=notes)


def at_sizes(name: str, images: LabelledImages, sizes_px: Sequence[int]) -> Suite:
    """Return the suite of one split, seen at several sizes by a model that was trained at one.

    H. Touvron et al., Fixing the train-test resolution discrepancy (arXiv 1906.06423).
    """
    parts = [Part(images=images, place={"image_px": px}, image_px=px) for px in sizes_px]
    what = f"{len(images)} pictures of {images.name!r} at {len(parts)} sizes"
    return Suite(name=name, what=what, parts=parts)


def usual_sizes(trained_px: int, patch_px: int) -> tuple[int, ...]:
    """Return sides from half to twice that of training that are whole numbers of patches.

    >>> usual_sizes(224, 16)
    (112, 144, 176, 208, 224, 272, 336, 448)
    >>> usual_sizes(32, 16)
    (16, 32, 48, 64)
    """
    sizes = {round(trained_px * factor / patch_px) * patch_px for factor in _FACTORS}
    return tuple(sorted((sizes | {trained_px}) - {0}))
