"""Against the programs that made ImageNet-C, Tiny ImageNet-C and CIFAR-C, given the same draws.

`published.json` says which programs, with which libraries and when. They were run with vitx's
random draws in place of their own, so that pictures can be compared and not only their statistics.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluate.corruptions.conftest import synthetic
from vitx.evaluate.corruptions import COMMON, CORRUPTIONS, SEVERITIES, VALIDATION, Levels, corrupt

PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("published.json").read_text())
# Of spatter, where OpenCV takes another edge for the nearest; of glass, since the picture is cut
# down to whole levels twice.
OFF_BY: dict[str, int] = {"spatter": 10, "glass_blur": 2}
OWN_DRAWS = ("impulse_noise",)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in OWN_DRAWS])
@pytest.mark.parametrize("levels", Levels)
def test_pictures_are_the_published_ones(levels: Levels, name: str) -> None:
    px = levels.value
    before = synthetic(px)
    places = np.array(PUBLISHED["places_of_32"]) * px // 32
    for severity, expected in zip(SEVERITIES, PUBLISHED["levels"][levels.name][name], strict=True):
        after = np.asarray(corrupt(before, name, severity, key=7)).astype(int)
        pixels = after[places[:, 0], places[:, 1]]
        assert np.abs(pixels - expected["pixels"]).max() <= OFF_BY.get(name, 1), severity
        change = after - np.asarray(before)
        # Where theirs is a whole number but for rounding, it may be cut down to the one below.
        assert abs(change.mean() - expected["mean"]) < 0.11, severity
        assert abs(change.std() - expected["deviation"]) < 0.11, severity


@pytest.mark.parametrize("levels", Levels)
def test_impulses_are_as_many_as_published(levels: Levels) -> None:
    before = synthetic(levels.value)
    for severity, expected in zip(
        SEVERITIES, PUBLISHED["levels"][levels.name]["impulse_noise"], strict=True
    ):
        after = np.asarray(corrupt(before, "impulse_noise", severity, key=7)).astype(int)
        change = after - np.asarray(before)
        # Of n values a share is changed, of either set; three deviations of the difference.
        share = CORRUPTIONS["impulse_noise"].levels(levels)[severity - 1][0]
        off = 3 * np.sqrt(2 / (share * change.size))
        assert change.std() == pytest.approx(expected["deviation"], rel=off)
        assert change.mean() == pytest.approx(expected["mean"], abs=off * expected["deviation"])


def test_every_corruption_has_five_levels_in_every_set() -> None:
    assert [len(COMMON), len(VALIDATION)] == [15, 4]
    assert (*COMMON, *VALIDATION) == tuple(CORRUPTIONS)
    assert tuple(list(PUBLISHED["levels"]["imagenet"])[:15]) == COMMON
    for levels in Levels:
        assert all(len(each.levels(levels)) == 5 for each in CORRUPTIONS.values())
