"""Clouds: the plasma fractal, a height map by the diamond-square algorithm.

Source: A. Fournier, D. Fussell, L. Carpenter, CACM 25 (1982), with the noise of the published
programs of ImageNet-C.

Shapes: N side of the map so far, S side of the whole map.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Heights = npt.NDArray[np.float64]


def plasma(side: int, decay: float, random: Generator) -> npt.NDArray[np.float32]:
    """Draw a map of heights from 0 to 1 whose edges fit together.

    Args:
        side: S, a power of two.
        decay: by what the noise shrinks from one size to half of it; the larger, the smoother.
        random: what to draw from.

    Returns:
        [S, S].
    """
    heights, noise = np.zeros((1, 1)), 100.0
    while len(heights) < side:
        # The published programs multiply noise by its own size, so that it shrinks as a square.
        heights = _twice_as_fine(heights, noise * noise, random)
        noise /= decay
    heights -= heights.min()
    heights /= np.maximum(heights.max(), np.finfo(float).tiny)
    return heights.astype(np.float32)


def _twice_as_fine(corners: Heights, noise: float, random: Generator) -> Heights:
    """Put new heights between those of [N, N]: each the mean of four around it, and noise."""
    count = len(corners)
    fine = np.empty((2 * count, 2 * count))
    draws = random.uniform(-noise, noise, (3, count, count))
    beside = corners + np.roll(corners, -1, axis=1)
    centres = (beside + np.roll(beside, -1, axis=0)) / 4 + draws[0]
    fine[::2, ::2], fine[1::2, 1::2] = corners, centres
    fine[::2, 1::2] = (beside + centres + np.roll(centres, 1, axis=0)) / 4 + draws[1]
    above = corners + np.roll(corners, -1, axis=0)
    fine[1::2, ::2] = (above + centres + np.roll(centres, 1, axis=1)) / 4 + draws[2]
    return fine
