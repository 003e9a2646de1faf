"""Every augmentation setting has its effect, measured on pictures whose pixels can be read back."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps

from vitx.config.schema import AugmentationConfig, Crop
from vitx.data.augment import (
    PictureFormat,
    ToNormalized,
    build_eval_transform,
    build_train_transform,
)
from vitx.errors import UsageError
from vitx.paths import conf_dir
from vitx.runtime.seeds import set_random_state
from vitx.runtime.torchvision_ops import declare_missing_ops

# Pixels come out as they went in: x / 255.
PLAIN = PictureFormat(image_px=16, mean=(0.0,) * 3, std=(1.0,) * 3)
GREY = PictureFormat(image_px=16, mean=(0.0,), std=(1.0,))
STILL = {"crop": Crop.resize, "hflip": 0.0}
SEEDS = range(40)


def noise(side=16, *, channels=3, seed=0):
    shape = (side, side, 3) if channels == 3 else (side, side)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def transformed(picture, seed=0, *, format=PLAIN, mirror=True, **config):
    transform = build_train_transform(AugmentationConfig(**config), format, mirror=mirror)
    set_random_state(seed)
    return transform(picture)


def tensor(picture):
    """Return the pixels of a picture as [C, H, W] in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture)).float() / 255
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def bytes_of(image):
    return (image * 255).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_on_is_the_picture(channels):
    format = PLAIN if channels == 3 else GREY
    found = transformed(noise(channels=channels), format=format, **STILL)
    assert torch.equal(found, tensor(noise(channels=channels)))
    assert found.dtype is torch.float32


def test_normalisation():
    format = PictureFormat(image_px=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    assert format.channels == 3
    pixels = tensor(noise())
    expected = torch.stack(
        [(pixels[0] - 0.1) / 0.5, (pixels[1] - 0.2) / 0.25, (pixels[2] - 0.3) / 2]
    )
    torch.testing.assert_close(transformed(noise(), format=format, **STILL), expected)
    evaluate = build_eval_transform(AugmentationConfig(eval_crop_ratio=1.0), format)
    torch.testing.assert_close(evaluate(noise()), expected)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_normalisation_has_the_bits_of_torchvision(mode, channels):
    declare_missing_ops()
    from torchvision import transforms

    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    picture = noise(41).convert(mode).crop((0, 0, 41, 23))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])(picture)
    ours = ToNormalized(mean, std)(picture)
    assert torch.equal(ours, theirs)
    assert ours.shape == (channels, 23, 41)
    assert ours.is_contiguous()


def test_flips():
    pixels, still = tensor(noise()), {"crop": Crop.resize}
    for seed in SEEDS:
        assert torch.equal(transformed(noise(), seed, **still, hflip=1.0), pixels.flip(2))
        assert torch.equal(
            transformed(noise(), seed, **still, hflip=0.0, vflip=1.0), pixels.flip(1)
        )
        unmirrored = transformed(noise(), seed, **still, hflip=1.0, mirror=False)
        assert torch.equal(unmirrored, pixels)
    halves = [torch.equal(transformed(noise(), seed, **still), pixels) for seed in range(200)]
    assert 70 < sum(halves) < 130


@pytest.mark.parametrize(
    ("interpolation", "kernels"),
    [
        ("bilinear", [Image.Resampling.BILINEAR]),
        ("bicubic", [Image.Resampling.BICUBIC]),
        ("random", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]),
    ],
)
def test_interpolation(interpolation, kernels):
    """The whole of a picture is a resize, by Pillow's own kernels."""
    picture = noise(40)
    expected = [bytes_of(tensor(picture.resize((16, 16), kernel))) for kernel in kernels]
    whole = {"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "hflip": 0.0}
    met = set()
    for seed in SEEDS:
        found = bytes_of(transformed(picture, seed, interpolation=interpolation, **whole))
        (number,) = (n for n, each in enumerate(expected) if torch.equal(found, each))
        met.add(number)
    assert len(met) == len(kernels)
    if interpolation != "random":
        still = bytes_of(transformed(picture, interpolation=interpolation, **STILL))
        assert torch.equal(still, expected[0])


@pytest.mark.parametrize(
    ("area", "aspect"), [(0.25, 0.5), (0.25, 1.0), (0.25, 2.0), (0.5, 0.5), (0.5, 2.0), (1.0, 1.0)]
)
def test_random_resized_crop_has_its_area_and_aspect(area, aspect):
    """The colours are the coordinates, so the corners say which part was cut out."""
    side = 200
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    picture = Image.fromarray(np.stack([across, down, across], 2).astype(np.uint8))
    cut, corners = {"scale": [area, area], "ratio": [aspect, aspect], "hflip": 0.0}, set()
    for seed in SEEDS:
        found = transformed(picture, seed, **cut) * 255
        width = (found[0, :, -1] - found[0, :, 0]).mean().item() / 15 * 16
        height = (found[1, -1] - found[1, 0]).mean().item() / 15 * 16
        assert width == pytest.approx(side * (area * aspect) ** 0.5, rel=0.05)
        assert height == pytest.approx(side * (area / aspect) ** 0.5, rel=0.05)
        corners.add((round(found[0, 0, 0].item()), round(found[1, 0, 0].item())))
    assert len(corners) > (10 if area < 1 else 0)


def test_pad_takes_every_window_of_the_mirrored_border():
    pixels = np.pad(np.asarray(noise()), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {
        pixels[y : y + 16, x : x + 16].transpose(2, 0, 1).tobytes(): (x, y)
        for x in range(5)
        for y in range(5)
    }
    still = {"crop": Crop.pad, "hflip": 0.0}
    found = {
        windows[bytes_of(transformed(noise(), seed, pad_px=2, **still)).numpy().tobytes()]
        for seed in range(300)
    }
    assert found == set(windows.values())
    assert torch.equal(transformed(noise(), pad_px=0, **still), tensor(noise()))


def test_jitter_changes_brightness_and_gives_way_to_randaugment():
    picture, still = noise(), STILL | {"color_jitter": 0.4}
    means = [transformed(picture, seed, **still).mean().item() for seed in SEEDS]
    assert max(means) > 1.1 * tensor(picture).mean() > 1.2 * min(means)
    assert torch.equal(transformed(picture, **STILL, color_jitter=0.0), tensor(picture))
    # As in DeiT's and XCiT's recipes, where the flag has no effect.
    rand = {"auto_augment": "rand-m9-mstd0.5-inc1"}
    for seed in SEEDS:
        found = transformed(picture, seed, **still, **rand)
        assert torch.equal(found, transformed(picture, seed, **STILL, **rand))


def test_three_augment_is_grey_or_solarised_or_blurred():
    """DeiT III's three, one at a time, each about as often."""
    picture = noise()
    pixels, kinds = np.asarray(picture).astype(int), {"grey": 0, "solarised": 0, "blurred": 0}
    for seed in range(300):
        found = bytes_of(transformed(picture, seed, **STILL, auto_augment="3a")).permute(1, 2, 0)
        values = found.numpy().astype(int)
        if (values == values[..., :1]).all():
            kinds["grey"] += 1
        elif ((values == pixels) | (values == 255 - pixels)).all():
            assert (values[pixels < 128] == pixels[pixels < 128]).all()
            kinds["solarised"] += 1
        else:
            assert values.std() < pixels.std()
            kinds["blurred"] += 1
    assert min(kinds.values()) > 70
    jittered = {"auto_augment": "3a", "color_jitter": 0.3}
    assert any(
        not torch.equal(
            transformed(picture, seed, **STILL, **jittered),
            transformed(picture, seed, **STILL, auto_augment="3a"),
        )
        for seed in SEEDS
    )


@pytest.mark.parametrize("string", ["rand-m9-mstd0.5-inc1", "rand-m9-n2-mstd1.0", "original", "3a"])
def test_bit_for_bit_timms_chain_from_the_same_state(string):
    from timm.data import create_transform

    format = PictureFormat(image_px=16, mean=(0.4,) * 3, std=(0.3,) * 3)
    config = {"auto_augment": string, "erase_prob": 0.25, "color_jitter": 0.3}
    theirs = create_transform(
        16,
        is_training=True,
        auto_augment=string,
        color_jitter=0.3,
        interpolation="bicubic",
        mean=(0.4,) * 3,
        std=(0.3,) * 3,
        re_prob=0.25,
        re_mode="pixel",
    )
    for seed in SEEDS:
        set_random_state(seed)
        expected = theirs(noise(24))
        assert torch.equal(transformed(noise(24), seed, format=format, **config), expected)


@pytest.mark.parametrize("string", ["rand-m9-mstd0.5-inc1", "rand-m9-n2-mstd1.0", "3a", "original"])
def test_grey_pictures(string):
    picture, seen = noise(channels=1), set()
    for seed in range(120):
        found = transformed(picture, seed, format=GREY, **STILL, auto_augment=string)
        assert found.shape == (1, 16, 16)
        assert found.isfinite().all()
        seen.add(found.numpy().tobytes())
    assert len(seen) > 5
    inverted = bytes_of(tensor(ImageOps.invert(picture)))
    if string == "3a":
        parts = torch.stack([bytes_of(tensor(picture)), inverted])
        solarised = torch.where(parts[0] < 128, parts[0], parts[1])
        assert (solarised.float() / 255).numpy().tobytes() in seen


def erased(seed, picture=None, **config):
    """Return where pixels differ from the picture, and what stands there."""
    format = PictureFormat(image_px=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    before = (tensor(picture or noise()) - 0.5) / 0.5
    found = transformed(picture or noise(), seed, format=format, **STILL, **config)
    # A pixel of noise never is exactly what was there.
    changed = (found != before).any(0)
    return changed, found[:, changed]


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_fills_one_rectangle(mode):
    shares = []
    for seed in SEEDS:
        changed, filling = erased(seed, erase_prob=1.0, erase_mode=mode)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        inside = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.all()
        shares.append(inside.numel() / 256)
        if mode == "const":
            assert not filling.any()
        elif mode == "rand":
            assert (filling == filling[:, :1]).all()
            assert len(filling[:, 0].unique()) == 3
        else:
            assert filling.unique().numel() == filling.numel()
    assert min(shares) > 0.02 / 2
    assert max(shares) < 1.3 / 3
    assert not any(erased(seed, erase_prob=0.0)[0].any() for seed in SEEDS)
    some = sum(bool(erased(seed, erase_prob=0.25)[0].any()) for seed in range(200))
    assert 25 < some < 75


def test_erasing_more_than_one_rectangle():
    def areas(count):
        return [
            erased(seed, erase_prob=1.0, erase_mode="rand", erase_count=count)[1][0]
            .unique()
            .numel()
            for seed in SEEDS
        ]

    assert set(areas(1)) == {1}
    assert set(areas(3)) == {1, 2, 3}


@pytest.mark.parametrize(
    ("image_px", "ratio", "resized"),
    # 438 is DeiT's at 384 px; 256 everybody's at 224.
    [(224, 0.875, 256), (384, 0.875, 438), (224, 0.9, 248), (384, 1.0, 384), (32, 1.0, 32)],
)
def test_evaluation_resizes_the_shorter_side_and_crops_the_centre(image_px, ratio, resized):
    format = PictureFormat(image_px=image_px, mean=(0.0,) * 3, std=(1.0,) * 3)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    )
    longer = int(resized * 420 / 300)
    large = picture.resize((longer, resized), Image.Resampling.BICUBIC)
    left, top = round((longer - image_px) / 2), round((resized - image_px) / 2)
    expected = large.crop((left, top, left + image_px, top + image_px))
    for interpolation in ("bicubic", "random"):
        config = AugmentationConfig(eval_crop_ratio=ratio, interpolation=interpolation)
        found = build_eval_transform(config, format)(picture)
        assert torch.equal(bytes_of(found), bytes_of(tensor(expected)))
    config = AugmentationConfig(eval_crop_ratio=ratio, interpolation="bilinear")
    other = build_eval_transform(config, format)(picture)
    assert not torch.equal(bytes_of(other), bytes_of(tensor(expected)))


def test_evaluation_draws_nothing():
    transform = build_eval_transform(
        AugmentationConfig(hflip=1.0, erase_prob=1.0, auto_augment="3a", color_jitter=0.4), PLAIN
    )
    first = transform(noise(30))
    for seed in SEEDS:
        set_random_state(seed)
        assert torch.equal(transform(noise(30)), first)


@pytest.mark.parametrize(
    "option", sorted(conf_dir().glob("augmentation/*.yaml")), ids=lambda f: f.stem
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shipped_options_make_pictures(option, channels):
    values = yaml.safe_load(option.read_text(encoding="utf-8")) or {}
    crop = {"crop": Crop[values.pop("crop")]} if "crop" in values else {}
    format = PLAIN if channels == 3 else GREY
    config = AugmentationConfig(**values, **crop)
    train = build_train_transform(config, format, mirror=True)
    evaluate = build_eval_transform(config, format)
    # Odd pictures too: one pixel, one line, far from square.
    for seed, size in enumerate([(16, 16), (1, 1), (1, 30), (90, 3)] * 10):
        picture = noise(90, channels=channels).crop((0, 0, *size))
        set_random_state(seed)
        for found in (train(picture), evaluate(picture)):
            assert found.shape == (channels, 16, 16)
            assert found.isfinite().all()


@pytest.mark.parametrize("string", ["zzz", "rand-m9-q3", "rand-mx9-n", "3b"])
def test_a_policy_that_timm_does_not_know(string):
    with pytest.raises(UsageError) as caught:
        transformed(noise(), auto_augment=string)
    line = str(caught.value)
    assert line.startswith(f"augmentation.auto_augment={string}: timm can't read it (")
    assert "rand-m9-mstd0.5-inc1" in line
    assert "\n" not in line
