"""Pictures as arrays of numbers, and back.

Shapes: H height, W width, C channels, 1 or 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float32]
"""[H, W, C], 0 is black and 1 is white; what a corruption returns may lie outside."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# In levels: a whole number that float32 puts a little lower has to stay that number.
_ROUNDING = 1e-4


def from_image(image: Image.Image) -> Pixels:
    """Return a picture of mode L or RGB as [H, W, C]."""
    levels = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, -1)
    return levels / np.float32(255)


def to_image(x: Pixels) -> Image.Image:
    """Return [H, W, C] as a picture of mode L or RGB.

    What lies outside is clipped, and fractions of a level are cut off, not rounded, as in the
    published programs: a picture with noise becomes half a level darker.
    """
    levels = _levels(x)
    return Image.fromarray(levels[..., 0] if x.shape[2] == 1 else levels)


def whole_levels(x: Pixels) -> Pixels:
    """Cut [H, W, C] down to 256 levels, as the published programs do between two steps."""
    return _levels(x).astype(np.float32) / np.float32(255)


def luma(x: Pixels) -> Pixels:
    """Return the brightness of [H, W, C] by ITU-R BT.601, [H, W, 1]."""
    return x if x.shape[2] == 1 else (x @ _LUMA)[..., np.newaxis]


def _levels(x: Pixels) -> npt.NDArray[np.uint8]:
    return (np.clip(x, 0, 1) * np.float32(255) + np.float32(_ROUNDING)).astype(np.uint8)
