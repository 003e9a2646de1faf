"""The blur of a straight movement, by ImageMagick's rules.

Source: `MotionBlurImage` of ImageMagick 6 (`magick/effect.c`), which the published programs call
for `motion_blur` and `snow`. Pixels on a line to one side are averaged, each at the nearest whole
place, with the weights of half a Gaussian, and the mean is rounded to 16 bits. ImageMagick then
cuts it down to 8 bits; here that is left to the caller. Beyond the picture its edge goes on.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import math

import numpy as np

from vitx.evaluate.corruptions.pixels import Pixels


def move(x: Pixels, radius_px: float, deviation_px: float, *, degrees: float) -> Pixels:
    """Smear a picture along a line.

    Args:
        x: [H, W, C].
        radius_px: half the length of the line; all of it lies to one side.
        deviation_px: of the Gaussian that gives the weights.
        degrees: direction of the line, clockwise from the right.

    Returns:
        [H, W, C].
    """
    length = 2 * math.ceil(radius_px) + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * deviation_px**2))
    weights /= weights.sum()
    down, right = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    padded = np.pad(x, ((length, length), (length, length), (0, 0)), mode="edge")
    height, width, _ = x.shape
    moved = np.zeros_like(x)
    for place, weight in enumerate(weights.astype(np.float32)):
        top = length + math.ceil(place * down - 0.5)
        left = length + math.ceil(place * right - 0.5)
        moved += weight * padded[top : top + height, left : left + width]
    rounded: Pixels = np.rint(moved * np.float32(65535)) / np.float32(65535)
    return rounded
