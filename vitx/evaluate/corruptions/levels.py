"""The published levels of every corruption: three sets, by the size of the pictures.

Each row has the five severities of one corruption, from weak to strong, as the arguments of its
function. Source: `create_c/make_{imagenet,tinyimagenet,cifar}_c.py` in `hendrycks/robustness`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

Severities = tuple[tuple[Any, ...], ...]
"""Arguments by severity, from 1 to 5."""


class Levels(Enum):
    """A published set of levels; the value is the side of its pictures, in pixels."""

    cifar = 32
    tiny_imagenet = 64
    imagenet = 224


def levels_for(width: int, height: int) -> Levels:
    """Return the set whose pictures are closest in size, by the shorter side and by ratio.

    >>> levels_for(28, 28), levels_for(96, 64), levels_for(224, 224)
    (<Levels.cifar: 32>, <Levels.tiny_imagenet: 64>, <Levels.imagenet: 224>)
    """
    side = min(width, height)
    return min(Levels, key=lambda levels: abs(math.log(side / levels.value)))


def _of_one(*values: float) -> Severities:
    return tuple((value,) for value in values)


def _elastic(side: int, *shares: tuple[float, float, float]) -> Severities:
    return tuple(tuple(side * share for share in severity) for severity in shares)


IMAGENET: Mapping[str, Severities] = {
    "gaussian_noise": _of_one(0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": _of_one(60, 25, 12, 5, 3),
    "impulse_noise": _of_one(0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": _of_one(0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": _of_one(0.4, 0.3, 0.2, 0.1, 0.05),
    # "244 should have been 224", the authors say of their own number.
    "elastic_transform": _elastic(
        244,
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
    "pixelate": _of_one(0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": _of_one(25, 18, 15, 10, 7),
    "speckle_noise": _of_one(0.15, 0.2, 0.35, 0.45, 0.6),
    "gaussian_blur": _of_one(1, 2, 3, 4, 6),
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}

TINY_IMAGENET: Mapping[str, Severities] = {
    "gaussian_noise": _of_one(0.04, 0.08, 0.12, 0.15, 0.18),
    "shot_noise": _of_one(250, 100, 50, 30, 15),
    "impulse_noise": _of_one(0.01, 0.02, 0.05, 0.08, 0.14),
    "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    "frost": ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)),
    "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    "brightness": _of_one(0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": _of_one(0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": _elastic(
        64,
        (0, 0, 0.08),
        (0.05, 0.3, 0.06),
        (0.1, 0.08, 0.06),
        (0.1, 0.03, 0.03),
        (0.16, 0.03, 0.02),
    ),
    "pixelate": _of_one(0.9, 0.8, 0.7, 0.6, 0.5),
    "jpeg_compression": _of_one(65, 58, 50, 40, 25),
    "speckle_noise": _of_one(0.15, 0.2, 0.25, 0.3, 0.35),
    "gaussian_blur": _of_one(0.5, 0.75, 1, 1.25, 1.5),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.6, False),
        (0.65, 0.1, 0.8, 0.7, 0.6, False),
        (0.65, 0.3, 1, 0.69, 0.6, False),
        (0.65, 0.1, 0.7, 0.68, 0.6, True),
        (0.65, 0.1, 0.5, 0.67, 0.6, True),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
}

CIFAR: Mapping[str, Severities] = {
    "gaussian_noise": _of_one(0.04, 0.06, 0.08, 0.09, 0.1),
    "shot_noise": _of_one(500, 250, 100, 75, 50),
    "impulse_noise": _of_one(0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": _of_one(0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": _of_one(0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": _elastic(
        32,
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": _of_one(0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": _of_one(80, 65, 58, 50, 40),
    "speckle_noise": _of_one(0.06, 0.1, 0.12, 0.16, 0.2),
    "gaussian_blur": _of_one(0.4, 0.6, 0.7, 0.8, 1),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}

LEVELS: Mapping[Levels, Mapping[str, Severities]] = {
    Levels.cifar: CIFAR,
    Levels.tiny_imagenet: TINY_IMAGENET,
    Levels.imagenet: IMAGENET,
}
