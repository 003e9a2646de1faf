"""Mixed batches: what the targets say of the pixels, and timm's own arithmetic."""

import numpy as np
import pytest
import torch

from vitx.config.schema import AugmentationConfig
from vitx.data.mixing import Mixing
from vitx.records import Batch, Place
from vitx.runtime.seeds import derive, set_random_state

CLASSES, SIDE = 8, 16


def batch(size=6):
    """Pictures of one shade, which is also the class: what is mixed can be read off."""
    labels = torch.arange(size)
    images = labels[:, None, None, None].float().expand(size, 2, SIDE, SIDE).clone()
    return Batch(images=images, targets=labels, indices=labels, place=Place(0, 0, 0))


def mixed(step=0, micro=0, *, seed=0, **config):
    mixing = Mixing(AugmentationConfig(**config), num_classes=CLASSES, seed=seed)
    return mixing(batch(), step, micro)


def shares(targets, smoothing=0.0):
    """Return for each picture the share of its own class, smoothing taken off again."""
    own = targets[torch.arange(len(targets)), torch.arange(len(targets))]
    return (own - smoothing / CLASSES) / (1 - smoothing)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixup_is_what_its_targets_say(mode, smoothing):
    for step in range(20):
        found = mixed(step, mixup=0.8, mix_mode=mode, label_smoothing=smoothing)
        share = shares(found.targets, smoothing)
        own, other = torch.arange(6.0), torch.arange(6.0).flip(0)
        expected = share * own + (1 - share) * other
        torch.testing.assert_close(
            found.images, expected[:, None, None, None].expand(6, 2, SIDE, SIDE)
        )
        assert len(share.unique()) == {"batch": 1, "pair": 3, "elem": 6}[mode]
        torch.testing.assert_close(found.targets.sum(1), torch.ones(6))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cutmix_counts_the_pixels_it_pasted(mode, smoothing):
    pasted = set()
    for step in range(20):
        found = mixed(step, cutmix=1.0, mix_mode=mode, label_smoothing=smoothing)
        share = shares(found.targets, smoothing)
        for number, picture in enumerate(found.images):
            own = picture == number
            assert (own | (picture == 5 - number)).all()
            assert share[number].item() == pytest.approx(own.float().mean().item(), abs=1e-6)
            other = (~own[0]).nonzero()
            if len(other):
                height, width = other.amax(0) - other.amin(0) + 1
                assert len(other) == height * width, "not a rectangle"
            pasted.add(len(other))
    assert len(pasted) > 10


def test_targets_worked_out_by_hand():
    """Mixup of classes 0 and 5 with share s, smoothing 0.1 over 8 classes."""
    found = mixed(mixup=0.8, label_smoothing=0.1)
    share = shares(found.targets, 0.1)[0].item()
    floor = 0.1 / 8
    expected = torch.full((8,), floor)
    expected[0], expected[5] = floor + 0.9 * share, floor + 0.9 * (1 - share)
    torch.testing.assert_close(found.targets[0], expected)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_bit_for_bit_timms_mixup_from_the_same_state(mode):
    from timm.data import Mixup

    theirs = Mixup(0.8, 1.0, None, 0.9, 0.5, mode, True, 0.1, CLASSES)
    for step in range(5):
        set_random_state(derive("mix", 7, step, 1))
        plain = batch()
        images, targets = theirs(plain.images.clone(), plain.targets)
        found = mixed(
            step,
            1,
            seed=7,
            mixup=0.8,
            cutmix=1.0,
            mix_prob=0.9,
            mix_mode=mode,
            label_smoothing=0.1,
        )
        assert torch.equal(found.images, images)
        assert torch.equal(found.targets, targets)
        assert torch.equal(found.indices, plain.indices)


def test_shares_follow_the_beta_distribution():
    """Of Beta(0.8, 0.8): mean 1/2, variance 1 / (4 (2 a + 1)); 1000 draws, 4 deviations."""
    draws = np.array([shares(mixed(step, mixup=0.8).targets)[0].item() for step in range(1000)])
    variance = 1 / (4 * 2.6)
    assert draws.mean() == pytest.approx(0.5, abs=4 * (variance / 1000) ** 0.5)
    assert draws.var() == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(0.0, 0, 0), (0.3, 30, 90), (1.0, 200, 200)]
)
def test_probability_of_mixing_at_all(probability, low, high):
    changed = sum(
        not torch.equal(mixed(step, mixup=1.0, mix_prob=probability).images, batch().images)
        for step in range(200)
    )
    assert low <= changed <= high


@pytest.mark.parametrize(("switch", "low", "high"), [(0.0, 0, 0), (0.3, 30, 90), (1.0, 200, 200)])
def test_probability_of_cutmix_rather_than_mixup(switch, low, high):
    def is_cut(step):
        images = mixed(step, mixup=1.0, cutmix=1.0, mix_switch_prob=switch).images
        return bool((images == images.round()).all())

    assert low <= sum(map(is_cut, range(200))) <= high


def test_drawn_from_seed_step_and_micro_batch_alone():
    options = {"mixup": 0.8, "cutmix": 1.0}
    first = mixed(3, 1, **options).images
    torch.rand(7), np.random.rand(7)
    assert torch.equal(mixed(3, 1, **options).images, first)
    others = [mixed(4, 1, **options), mixed(3, 0, **options), mixed(3, 1, seed=1, **options)]
    assert not any(torch.equal(other.images, first) for other in others)


def test_off_it_leaves_the_batch_alone():
    mixing = Mixing(
        AugmentationConfig(mix_prob=1.0, label_smoothing=0.1), num_classes=CLASSES, seed=0
    )
    given = batch(5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert mixing(given, 0, 0) is given
    assert torch.equal(given.images, batch(5).images)
    assert torch.equal(torch.get_rng_state(), before)
