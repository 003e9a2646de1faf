"""Weather: snow, frost, fog and bright light.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from vitx.evaluate.corruptions import textures
from vitx.evaluate.corruptions.colour import value_of, with_value
from vitx.evaluate.corruptions.motion import move
from vitx.evaluate.corruptions.pixels import Pixels, luma, whole_levels
from vitx.evaluate.corruptions.plasma import plasma
from vitx.evaluate.corruptions.resampling import zoom_into_middle


def snow(
    x: Pixels,
    random: Generator,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius_px: float,
    deviation_px: float,
    kept: float,
) -> Pixels:
    """Let snow fall on [H, W, C]: paler, and under flakes smeared along their fall.

    Flakes are normal noise, enlarged, of which what lies below a threshold is left out. They are
    added twice, the second time turned upside down.

    Returns:
        [H, W, C].
    """
    height, width, _ = x.shape
    noise = random.standard_normal((height, width, 1), dtype=np.float32)
    flakes = zoom_into_middle(noise * np.float32(deviation) + np.float32(mean), zoom)
    flakes = np.where(flakes < threshold, np.float32(0), flakes)
    degrees = random.uniform(-135, -45)
    flakes = whole_levels(move(whole_levels(flakes), radius_px, deviation_px, degrees=degrees))
    pale = np.maximum(x, luma(x) * np.float32(1.5) + np.float32(0.5))
    ground = np.float32(kept) * x + np.float32(1 - kept) * pale
    snowed: Pixels = ground + flakes + flakes[::-1, ::-1]
    return snowed


def frost(x: Pixels, random: Generator, kept: float, added: float, scale: float) -> Pixels:
    """Lay a piece of a photograph of frost over [H, W, C].

    The photograph is reduced by `scale` first. Where the picture is larger than that the published
    programs fail; here the photograph is enlarged as far as it takes.

    Returns:
        [H, W, C].
    """
    height, width, channels = x.shape
    ice = textures.texture(int(random.integers(textures.COUNT)), scale, height, width)
    top, left = (int(random.integers(ice.shape[i] - x.shape[i])) for i in (0, 1))
    piece = ice[top : top + height, left : left + width]
    return np.float32(kept) * x + np.float32(added) * (luma(piece) if channels == 1 else piece)


def fog(x: Pixels, random: Generator, thickness: float, decay: float) -> Pixels:
    """Add a plasma fractal to [H, W, C] and lower the sum to the brightest value of before."""
    height, width, _ = x.shape
    side = 1 << (max(height, width) - 1).bit_length()
    clouds = plasma(side, decay, random)[:height, :width, np.newaxis]
    brightest = np.float32(x.max())
    return (x + np.float32(thickness) * clouds) * (brightest / (brightest + np.float32(thickness)))


def brightness(x: Pixels, random: Generator, added: float) -> Pixels:
    """Add to the value of [H, W, C] in hue, saturation and value."""
    del random
    return with_value(x, np.clip(value_of(x) + np.float32(added), 0, 1))
