"""Blur: of a lens out of focus, of a moving or approaching camera, and Gaussian.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
from numpy.random import Generator

from vitx.evaluate.corruptions.motion import move
from vitx.evaluate.corruptions.pixels import Pixels
from vitx.evaluate.corruptions.resampling import zoom_into_middle


def smoothed(x: Pixels, deviation_px: float) -> Pixels:
    """Smooth [H, W, C] with a Gaussian of 4 deviations to each side; outside is as the edge."""
    sigma = (deviation_px, deviation_px, 0)
    smooth: Pixels = scipy.ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4.0)
    return smooth


def gaussian_blur(x: Pixels, random: Generator, deviation_px: float) -> Pixels:
    """Smooth [H, W, C] with a Gaussian."""
    del random
    return smoothed(x, deviation_px)


def defocus_blur(x: Pixels, random: Generator, radius_px: float, softness_px: float) -> Pixels:
    """Average [H, W, C] over a disk with a soft edge; outside, the picture is mirrored."""
    del random
    kernel = _disk(radius_px, softness_px)
    margin = kernel.shape[0] // 2
    padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    # What wraps around lands in the first two margins, which are cut off.
    shape = tuple(scipy.fft.next_fast_len(each, real=True) for each in padded.shape[:2])
    planes = scipy.fft.rfft2(padded.transpose(2, 0, 1), shape) * scipy.fft.rfft2(kernel, shape)
    bottom, right = 2 * margin + x.shape[0], 2 * margin + x.shape[1]
    blurred: Pixels = scipy.fft.irfft2(planes, shape)[:, 2 * margin : bottom, 2 * margin : right]
    return blurred.transpose(1, 2, 0)


@lru_cache(maxsize=32)
def _disk(radius_px: float, softness_px: float) -> npt.NDArray[np.float32]:
    reach, taps = (8, 3) if radius_px <= 8 else (round(radius_px), 5)
    places = np.arange(-reach, reach + 1)
    inside = places[:, np.newaxis] ** 2 + places**2 <= radius_px**2
    # The published kernel is smoothed with 3 or 5 taps, however soft its edge is to be.
    soft = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * softness_px**2))
    disk = inside / inside.sum()
    for axis in (0, 1):
        disk = scipy.ndimage.correlate1d(disk, soft / soft.sum(), axis=axis, mode="mirror")
    return np.asarray(disk, dtype=np.float32)


def motion_blur(x: Pixels, random: Generator, radius_px: float, deviation_px: float) -> Pixels:
    """Smear [H, W, C] to one side, at most 45 degrees from the horizontal; see `motion`."""
    return move(x, radius_px, deviation_px, degrees=random.uniform(-45, 45))


def zoom_blur(x: Pixels, random: Generator, most: float, step: float) -> Pixels:
    """Average [H, W, C] with itself enlarged by 1, 1 + step, ... below `most`, and itself again.

    The factors are those of `numpy.arange`, which for some levels include `most`.

    Returns:
        [H, W, C].
    """
    del random
    factors = np.arange(1, most, step)
    total = x + x
    for factor in factors[1:]:
        total += zoom_into_middle(x, float(factor))
    return total / np.float32(len(factors) + 1)
