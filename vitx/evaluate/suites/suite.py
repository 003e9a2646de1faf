"""What a suite is: one or several splits, and how answers on them count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from vitx.config.schema import EvalCrop
from vitx.data.images import LabelledImages
from vitx.evaluate.judging import PLAIN, PerSample, Rules

Place = Mapping[str, str | int]
"""What sets a part apart from the others of its suite, such as `{"severity": 3}`."""
Change = Callable[[Image, int], Image]
"""Changes a picture that is resized and cropped, given its row."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A split that is measured once.

    Attributes:
        images: the split.
        rules: what counts as right.
        place: which part of the suite it is; empty where it is all of it.
        change: done to what would be shown of each picture; None leaves it as it is.
        crop: what would be shown; None is what is asked for.
        image_px: side of the picture that the model sees; None is that of its training.
    """

    images: LabelledImages
    rules: Rules = PLAIN
    place: Place = field(default_factory=dict)
    change: Change | None = None
    crop: EvalCrop | None = None
    image_px: int | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is measured under one name.

    Attributes:
        name: of the result.
        what: it is, and where it is described.
        parts: measured one after the other.
        several_labels: of a sample several classes may be right.
        notes: lines the user should read.
        conclude: makes further numbers of what was said of the samples of each part.
    """

    name: str
    what: str
    parts: Sequence[Part]
    several_labels: bool = False
    notes: tuple[str, ...] = ()
    conclude: Callable[[Sequence[PerSample]], Mapping[str, Any]] | None = None
