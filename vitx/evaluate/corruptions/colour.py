"""Value and saturation, changed without going by way of hue.

In the HSV model a channel is V (1 - S f), V being the largest channel and f a number of the hue
alone, 0 for the largest channel and 1 for the smallest. So another V scales all channels, and
another S scales how far each lies below V.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.random import Generator

from vitx.evaluate.corruptions.pixels import Pixels

_TINY = np.finfo(np.float32).tiny


def value_of(x: Pixels) -> Pixels:
    """Return the largest channel of [H, W, C], as [H, W, 1]."""
    # Along so short an axis numpy's own maximum takes five times as long.
    return reduce(np.maximum, (x[..., i : i + 1] for i in range(x.shape[2])))


def with_value(x: Pixels, value: Pixels) -> Pixels:
    """Return [H, W, C] with another value [H, W, 1]; black becomes grey."""
    largest = value_of(x)
    return np.where(largest > 0, x * (value / np.maximum(largest, _TINY)), value)


def saturate(x: Pixels, random: Generator, factor: float, added: float) -> Pixels:
    """Multiply the saturation of [H, W, C] by a factor and add to it.

    Grey has hue 0, so that with something added it becomes red, as in the published programs.
    A picture of one channel has no saturation, and stays as it is.

    Returns:
        [H, W, C].
    """
    del random
    if x.shape[2] == 1:
        return x
    value = value_of(x)
    depth = value - np.minimum(np.minimum(x[..., :1], x[..., 1:2]), x[..., 2:])
    saturation = depth / np.maximum(value, _TINY)
    new: Pixels = np.clip(saturation * np.float32(factor) + np.float32(added), 0, 1)
    of_hue = (value - x) / np.maximum(depth, _TINY)
    red = np.array([0, 1, 1], dtype=np.float32)
    pixels: Pixels = value * (np.float32(1) - new * np.where(depth > 0, of_hue, red))
    return pixels
