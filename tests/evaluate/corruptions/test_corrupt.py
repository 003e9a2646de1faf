"""Corrupting is a pure function, for pictures of any size and both modes."""

import hashlib
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.evaluate.corruptions.conftest import synthetic
from vitx.errors import UsageError
from vitx.evaluate.corruptions import (
    CORRUPTIONS,
    Corruptor,
    Levels,
    corrupt,
    corruptor,
    levels_for,
)
from vitx.evaluate.corruptions.digital import through_jpeg

ROOT = Path(__file__).resolve().parents[3]
# Nothing in them is drawn.
FIXED = {
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"),
    *("jpeg_compression", "gaussian_blur", "saturate"),
}
# Channels are treated alike, so that grey is one of three equal channels.
ALIKE = {
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur", "snow", "fog"),
    *("brightness", "contrast", "elastic_transform", "pixelate"),
}


def digest(seed: int = 3) -> str:
    picture = synthetic(64)
    joined = hashlib.sha256()
    for name in CORRUPTIONS:
        joined.update(corrupt(picture, name, 3, key=(seed, 11)).tobytes())
    return joined.hexdigest()


def test_the_same_in_another_process() -> None:
    code = "from tests.evaluate.corruptions.test_corrupt import digest; print(digest())"
    done = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert done.strip() == digest() != digest(seed=4)


def test_no_random_state_is_read_or_left_behind(picture: Image.Image) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().sum()

    before, first = states(), digest()
    assert states() == before
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert digest() == first


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_row_and_seed_has_draws_of_its_own(name: str, picture: Image.Image) -> None:
    made = [
        corruptor(name, 2, seed)(picture, row).tobytes() for seed, row in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(made)) == (1 if name in FIXED else 3)
    assert made[0] == corrupt(picture, name, 2, key=(0, 0)).tobytes()
    assert made[0] != picture.tobytes()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 20), (20, 33), (130, 250)])
def test_size_and_mode_stay(name: str, size: tuple[int, int]) -> None:
    for mode in ("L", "RGB"):
        before = synthetic(256).resize(size).convert(mode)
        kept = before.tobytes()
        for severity in (1, 5):
            after = corrupt(before, name, severity, key=0)
            assert (after.size, after.mode, after.info) == (size, mode, {})
        assert before.tobytes() == kept


def test_frost_on_a_picture_larger_than_its_textures() -> None:
    before = Image.new("RGB", (700, 640))
    after = np.asarray(corrupt(before, "frost", 1, key=0))
    assert after.min(axis=(0, 1)).max() < after.max() <= 0.4 * 255


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_grey_is_one_of_three_equal_channels(name: str, picture: Image.Image) -> None:
    grey = picture.convert("L")
    one = np.asarray(corrupt(grey, name, 3, key=5)).astype(int)
    three = np.asarray(corrupt(grey.convert("RGB"), name, 3, key=5)).astype(int)
    assert np.abs(three - one[..., np.newaxis]).max() <= 1


def test_pictures_of_imagenet_c_went_through_jpeg(picture: Image.Image) -> None:
    plain = corrupt(picture, "gaussian_noise", 5, key=0)
    saved = corrupt(picture, "gaussian_noise", 5, key=0, saved=True)
    assert saved.tobytes() == through_jpeg(plain, 85).tobytes() != plain.tobytes()
    # Which takes away part of what was added.
    change = [np.asarray(each).astype(int) - np.asarray(picture) for each in (plain, saved)]
    assert change[1].std() < 0.9 * change[0].std()


def test_goes_to_loader_processes(picture: Image.Image) -> None:
    one = corruptor("fog", 4, 9, levels=Levels.imagenet, saved=True)
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 (made here)
    assert one == Corruptor("fog", 4, 9, levels=Levels.imagenet, saved=True)
    assert one(picture, 0).tobytes() != corruptor("fog", 4, 9)(picture, 0).tobytes()


def test_levels_follow_the_size() -> None:
    sides = {8: "cifar", 45: "cifar", 46: "tiny_imagenet", 119: "tiny_imagenet", 120: "imagenet"}
    assert {side: levels_for(side, 999).name for side in sides} == sides
    picture = synthetic(64)
    by_size = corrupt(picture, "contrast", 1, key=0)
    assert by_size == corrupt(picture, "contrast", 1, key=0, levels=Levels.tiny_imagenet)
    assert by_size != corrupt(picture, "contrast", 1, key=0, levels=Levels.cifar)


@pytest.mark.parametrize(
    ("name", "severity", "mode", "words"),
    [
        ("gausian_noise", 1, "RGB", "did you mean 'gaussian_noise'"),
        ("fog", 0, "RGB", "severity 0 of fog: expected 1"),
        ("fog", 6, "RGB", "severity 6"),
        ("fog", 1, "RGBA", "mode RGBA can't be corrupted: expected L or RGB"),
    ],
)
def test_what_there_is_not(name: str, severity: int, mode: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        corrupt(Image.new(mode, (8, 8)), name, severity, key=0)


def test_a_corruptor_is_refused_before_the_first_picture() -> None:
    with pytest.raises(UsageError, match="no such corruption"):
        corruptor("mist", 1, 0)
