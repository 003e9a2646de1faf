"""The blur of frosted glass: pixels trade places with near ones.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from vitx.evaluate.corruptions.blur import smoothed
from vitx.evaluate.corruptions.pixels import Pixels, whole_levels

Places = npt.NDArray[np.intp]


def glass_blur(
    x: Pixels, random: Generator, deviation_px: float, reach_px: int, rounds: int
) -> Pixels:
    """Smooth [H, W, C], let pixels take the place of near ones, and smooth again.

    The published program means to swap two pixels, but its assignment overwrites the first before
    it reads it: a pixel becomes a copy of its neighbour, which stays. So does this.

    Returns:
        [H, W, C].
    """
    blurred = whole_levels(smoothed(x, deviation_px))
    height, width, channels = x.shape
    source = np.arange(height * width)
    for _ in range(rounds):
        source = source[_one_round(height, width, reach_px, random)]
    shuffled = blurred.reshape(-1, channels)[source].reshape(x.shape)
    return smoothed(shuffled, deviation_px)


def _one_round(height: int, width: int, reach_px: int, random: Generator) -> Places:
    """Say for each of [H * W] pixels which of the old ones it is a copy of after one round.

    A round goes from the last pixel to the first; each copies one drawn up to `reach_px` before
    it, or `reach_px` - 1 behind it. One that was copied itself earlier in the round passes on what
    it has become, so that copies form chains, which end in a pixel that is not yet changed.
    Following all chains at once, twice as far each time, takes a few steps instead of H * W.

    Returns:
        [H * W] places.
    """
    own = np.arange(height * width, dtype=np.intp)
    rows = np.arange(reach_px + 1, height - reach_px + 1)[:, np.newaxis]
    columns = np.arange(reach_px + 1, width - reach_px + 1)
    shape = (len(rows), len(columns))
    down, right = random.integers(-reach_px, reach_px, (2, *shape), dtype=np.int8)
    here = rows * width + columns
    there = here + down.astype(np.intp) * width + right
    drawn = own.copy()
    drawn[here] = there
    changed = np.zeros(height * width, dtype=bool)
    changed[here] = True
    # Only a pixel behind has been changed before; of one in front the old value is copied.
    goes_on = changed[drawn] & (drawn > own)
    step = np.where(goes_on, drawn, own)
    while not np.array_equal(further := step[step], step):
        step = further
    return drawn[step]
