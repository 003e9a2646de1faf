"""A teacher sees the student's pictures as its own, and never changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitx.models.teacher import Teacher
from vitx.records import PictureFormat

IMAGENET = PictureFormat(image_px=8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = PictureFormat(image_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
GREY = PictureFormat(image_px=8, mean=(0.3,), std=(0.2,))


def shown(pixels: torch.Tensor, picture: PictureFormat) -> torch.Tensor:
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (picture.mean, picture.std))
    return (pixels - mean) / std


def teacher(given: PictureFormat, wanted: PictureFormat) -> Teacher:
    model = nn.Sequential(nn.Conv2d(wanted.channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9))
    return Teacher(model, given=given, wanted=wanted)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_pictures_of_its_own_kind_stay_as_they_are(pixels: torch.Tensor) -> None:
    images = shown(pixels, HALF)
    assert teacher(HALF, HALF).adapt(images) is images


def test_another_normalisation_is_that_of_the_pixels(pixels: torch.Tensor) -> None:
    seen = teacher(HALF, IMAGENET).adapt(shown(pixels, HALF))
    torch.testing.assert_close(seen, shown(pixels, IMAGENET))


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma(pixels: torch.Tensor) -> None:
    one = pixels[:, :1]
    seen = teacher(GREY, IMAGENET).adapt(shown(one, GREY))
    torch.testing.assert_close(seen, shown(one.expand(-1, 3, -1, -1), IMAGENET))
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(
        teacher(IMAGENET, GREY).adapt(shown(pixels, IMAGENET)), shown(luma, GREY)
    )


def test_another_size_is_resampled(pixels: torch.Tensor) -> None:
    wanted = PictureFormat(image_px=12, mean=HALF.mean, std=HALF.std)
    seen = teacher(HALF, wanted).adapt(shown(pixels, HALF))
    larger = F.interpolate(pixels, (12, 12), mode="bicubic", antialias=True)
    torch.testing.assert_close(seen, shown(larger, HALF), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 0.26, 0.001])
def test_it_sees_the_middle(ratio: float, pixels: torch.Tensor) -> None:
    model = nn.Conv2d(3, 4, 3)
    seen = Teacher(model, given=HALF, wanted=HALF, crop_ratio=ratio).adapt(shown(pixels, HALF))
    side = max(1, round(8 * ratio))
    edge = (8 - side) // 2
    middle = pixels[:, :, edge : edge + side, edge : edge + side]
    larger = F.interpolate(middle, (8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(seen, shown(larger, HALF), atol=1e-5, rtol=1e-5)


def test_it_is_frozen_whatever_is_asked_of_it(pixels: torch.Tensor) -> None:
    one = teacher(HALF, HALF).train()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    said = one(shown(pixels, HALF))

    assert torch.equal(said, one(shown(pixels, HALF)))  # no dropout
    assert not said.requires_grad
    assert not any(module.training for module in one.modules())
    assert not any(each.requires_grad for each in one.parameters())
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
