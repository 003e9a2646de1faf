"""Digital: low contrast, coarse pixels and strong compression.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.random import Generator
from PIL import Image

from vitx.evaluate.corruptions.pixels import Pixels, from_image, to_image


def contrast(x: Pixels, random: Generator, factor: float) -> Pixels:
    """Bring each channel of [H, W, C] closer to its mean."""
    del random
    means: Pixels = x.mean(axis=(0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return (x - means) * np.float32(factor) + means


def pixelate(x: Pixels, random: Generator, factor: float) -> Pixels:
    """Reduce [H, W, C] to coarser pixels and enlarge it again, by the mean over each area."""
    del random
    height, width, _ = x.shape
    coarse = max(int(width * factor), 1), max(int(height * factor), 1)
    image = to_image(x).resize(coarse, Image.Resampling.BOX)
    return from_image(image.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(x: Pixels, random: Generator, quality: int) -> Pixels:
    """Write [H, W, C] as JPEG and read it again."""
    del random
    return from_image(through_jpeg(to_image(x), quality))


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return what becomes of a picture that is written as JPEG, with halved colour resolution."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as written:
        return written.convert(image.mode)
