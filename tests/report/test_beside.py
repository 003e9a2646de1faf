"""A picture beside its map: every patch where it is, in the colour of its share."""

import io

import numpy as np
import pytest
from PIL import Image

from vitx.report.beside import draw_beside

BLACK, HALF, BRIGHTEST = (0, 0, 4), (188, 55, 84), (252, 255, 164)


def drawn(picture: Image.Image, shares: list[list[float]], **texts: str) -> Image.Image:
    return Image.open(io.BytesIO(draw_beside(picture, np.array(shares), texts)))


@pytest.mark.parametrize(("side", "times"), [(2, 112), (32, 7), (224, 1), (300, 1)])
def test_places_and_colours(side: int, times: int) -> None:
    picture = Image.new("RGB", (side, side))
    picture.putpixel((side - 1, 0), (9, 99, 199))  # top right
    found = drawn(picture, [[0.0, 0.2], [0.4, 0.0]])
    px = side * times
    assert found.size == (2 * px + 8, px)
    left = np.asarray(found)[:, :px]
    assert np.array_equal(left, np.kron(np.asarray(picture), np.ones((times, times, 1), np.uint8)))
    assert (np.asarray(found)[:, px : px + 8] == 255).all()
    quarters = np.asarray(found)[:, px + 8 :].reshape(2, px // 2, 2, px // 2, 3)
    for (row, column), colour in {(0, 0): BLACK, (0, 1): HALF, (1, 0): BRIGHTEST}.items():
        assert (quarters[row, :, column] == colour).all()


def test_a_grey_picture_and_a_map_of_nothing() -> None:
    found = drawn(Image.new("L", (224, 224), 77), [[0.0]])
    assert found.getpixel((3, 3)) == (77, 77, 77)
    assert found.getpixel((240, 3)) == BLACK


def test_nearly_equal_shares_look_equal() -> None:
    found = drawn(Image.new("L", (224, 224)), [[0.2500, 0.2499]])
    assert np.ptp(np.asarray(found)[:, 232:].astype(int), axis=(0, 1)).max() <= 1


def test_texts_are_kept_whatever_they_are_and_bytes_repeat() -> None:
    picture = Image.new("L", (4, 4))
    texts = {"Source": "日本 \x1b[2J", "Software": "vitx"}
    assert drawn(picture, [[1.0]], **texts).text == texts
    assert draw_beside(picture, np.ones((1, 1)), texts) == draw_beside(
        picture, np.ones((1, 1)), texts
    )
