import numpy as np
import pytest
from PIL import Image


def synthetic(px: int) -> Image.Image:
    """Slopes, squares, a disc and noise: by whole numbers, so the same everywhere."""
    row, column = np.indices((px, px))
    squares = (row * 12 // px + column * 12 // px) % 2 * 90
    disc = ((row - px // 2) ** 2 + (column - px // 3) ** 2 < (px // 4) ** 2) * 80
    grain = (row * 7919 + column * 104729 + row * column * 31) % 41
    red = row * 120 // px + squares + grain
    green = column * 120 // px + disc + grain
    blue = (row + column) * 60 // px + 90 - squares // 2 + disc // 2 + grain // 2
    return Image.fromarray(np.stack((red, green, blue), axis=2).clip(0, 255).astype(np.uint8))


@pytest.fixture
def picture() -> Image.Image:
    return synthetic(64)
