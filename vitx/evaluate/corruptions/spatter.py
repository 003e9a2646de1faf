"""Spatter: drops of water or mud on the lens.

Source: the published programs of ImageNet-C, which call OpenCV for the relief of drops. Those
steps are redone here, with one difference: OpenCV measures the distance to an edge along moves
of a chess board, of lengths 1, 1.4 and 2.1969, and takes the nearest edge by that; here the edge
nearest in a straight line is measured by those moves.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from numpy.random import Generator

from vitx.evaluate.corruptions.blur import smoothed
from vitx.evaluate.corruptions.canny import edges
from vitx.evaluate.corruptions.pixels import Pixels, luma

Bytes = npt.NDArray[np.uint8]

_WATER: Pixels = np.array([[[175, 238, 238]]], dtype=np.float32) / np.float32(255)
_MUD: Pixels = np.array([[[63, 42, 20]]], dtype=np.float32) / np.float32(255)
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)
_FARTHEST_PX = 20.0


def spatter(
    x: Pixels,
    random: Generator,
    mean: float,
    deviation: float,
    smoothness_px: float,
    threshold: float,
    strength: float,
    mud: bool,
) -> Pixels:
    """Spatter [H, W, C]: smooth normal noise above a threshold is a drop.

    Args:
        x: [H, W, C].
        random: what to draw from.
        mean: of the noise.
        deviation: of the noise, before it is smoothed.
        smoothness_px: deviation of the Gaussian that smooths it.
        threshold: below is no drop.
        strength: of water, how much of its colour is added at most; of mud, the deviation in
            pixels of the Gaussian that smooths its drops.
        mud: mud, which covers, instead of water, which shines.

    Returns:
        [H, W, C].
    """
    height, width, channels = x.shape
    noise = random.standard_normal((height, width, 1), dtype=np.float32)
    liquid = smoothed(noise * np.float32(deviation) + np.float32(mean), smoothness_px)
    if mud:
        cover = smoothed((liquid > threshold).astype(np.float32), strength)
        cover = np.where(cover < 0.8, np.float32(0), cover)
        return x * (1 - cover) + cover * _in(_MUD, channels)
    inside = np.where(liquid < threshold, np.float32(0), liquid * np.float32(255))[..., 0]
    # In eight bits, as in the published programs: what is above 1 begins again at 0.
    drops = inside.astype(np.int64).astype(np.uint8)
    shine = drops * _relief(drops)
    shine *= np.float32(strength) / np.maximum(shine.max(), np.finfo(np.float32).tiny)
    return x + shine[..., np.newaxis] * _in(_WATER, channels)


def _in(colour: Pixels, channels: int) -> Pixels:
    return luma(colour) if channels == 1 else colour


def _relief(drops: Bytes) -> npt.NDArray[np.float32]:
    """Light [H, W] drops from one side, by how far each place is from an edge."""
    distance = np.minimum(_to_edge(edges(drops, weak=50, strong=150)), _FARTHEST_PX)
    heights = _equalized(_mean_of_9(distance).astype(np.uint8))
    lit = scipy.ndimage.correlate(heights.astype(np.float32), _RELIEF, mode="mirror")
    softened: npt.NDArray[np.float32] = np.rint(_mean_of_9(np.clip(lit, 0, 255)))
    return softened


def _to_edge(edge: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    if not edge.any():
        return np.full(edge.shape, _FARTHEST_PX, dtype=np.float32)
    nearest = scipy.ndimage.distance_transform_edt(
        ~edge, return_distances=False, return_indices=True
    )
    offsets = np.abs(nearest - np.indices(edge.shape))
    long, short = offsets.max(axis=0), offsets.min(axis=0)
    # A knight's move covers (2, 1), a bishop's (1, 1), and a rook's (1, 0).
    knights = np.minimum(short, long - short)
    bishops = short - knights
    rooks = long - 2 * knights - bishops
    lengths: npt.NDArray[np.float32] = (2.1969 * knights + 1.4 * bishops + rooks).astype(np.float32)
    return lengths


def _mean_of_9(field: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    mean: npt.NDArray[np.float32] = scipy.ndimage.uniform_filter(field, 3, mode="mirror")
    return mean


def _equalized(levels: Bytes) -> Bytes:
    """Spread [H, W] over all 256 levels by its histogram, the lowest level present to 0."""
    counts = np.bincount(levels.ravel(), minlength=256)
    lowest = int(levels.min())
    if counts[lowest] == levels.size:
        return levels
    above = np.cumsum(counts) - counts[lowest]
    spread = np.rint(np.float32(255) / np.float32(levels.size - counts[lowest]) * above)
    equalized: Bytes = np.clip(spread, 0, 255).astype(np.uint8)[levels]
    return equalized
