"""Suites of the run's own split, or of any other: as it is, at other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from vitx.data.images import LabelledImages
from vitx.evaluate.suites.suite import Part, Suite


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
