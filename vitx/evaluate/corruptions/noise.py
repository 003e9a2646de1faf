"""Noise: each value of each channel is changed by itself.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from vitx.evaluate.corruptions.pixels import Pixels


def gaussian_noise(x: Pixels, random: Generator, deviation: float) -> Pixels:
    """Add normal noise to [H, W, C], as of a sensor in little light."""
    return x + random.standard_normal(x.shape, dtype=np.float32) * np.float32(deviation)


def speckle_noise(x: Pixels, random: Generator, deviation: float) -> Pixels:
    """Add normal noise to [H, W, C] whose deviation is in proportion to the value."""
    return x + x * random.standard_normal(x.shape, dtype=np.float32) * np.float32(deviation)


def shot_noise(x: Pixels, random: Generator, photons: float) -> Pixels:
    """Replace each value of [H, W, C] by a Poisson count, white being `photons` on average."""
    return (random.poisson(x * np.float32(photons)) / photons).astype(np.float32)


def impulse_noise(x: Pixels, random: Generator, share: float) -> Pixels:
    """Make `share` of the values of [H, W, C] black or white, either as often: salt and pepper."""
    draw = random.random(x.shape, dtype=np.float32)
    changed = np.where(draw < share, np.float32(0), x)
    return np.where(draw < share / 2, np.float32(1), changed)
