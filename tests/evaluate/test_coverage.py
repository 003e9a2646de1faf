"""Intervals cover as often as they say, and the tests err no more often than they say."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from vitx.evaluate.bootstrap import bootstrap_of_means
from vitx.evaluate.over_seeds import difference_over_seeds
from vitx.evaluate.paired import Estimate, accuracy_difference, mcnemar


@functools.cache
def paired(count: int, only_a: int, only_b: int) -> tuple[float, float, float]:
    """Return the ends of the interval and McNemar's p for so many samples of each kind."""
    rows = np.arange(count)
    one = rows >= only_b
    two = (rows < only_b) | (rows >= only_b + only_a)
    found = accuracy_difference(one, two)
    assert found.low is not None and found.high is not None
    return found.low, found.high, mcnemar(one, two)


def exactly(count: int, share_a: float, share_b: float) -> tuple[float, float]:
    """Return how often the interval covers and the test rejects: all outcomes, weighted."""
    covered = rejected = 0.0
    most = stats.binom.ppf(1 - 1e-7, count, [share_a, share_b]).astype(int)
    one, two = np.meshgrid(*(np.arange(each + 1) for each in most), indexing="ij")
    kinds = np.stack([one, two, count - one - two], axis=-1)
    shares = [share_a, share_b, 1 - share_a - share_b]
    weights = stats.multinomial.pmf(kinds, count, shares)
    for a, b in zip(*np.nonzero(weights > 1e-8), strict=True):
        low, high, p = paired(count, int(a), int(b))
        covered += weights[a, b] * (low <= 100 * (share_b - share_a) <= high)
        rejected += weights[a, b] * (p <= 0.05)
    return covered, rejected


@pytest.mark.parametrize(
    ("count", "share_a", "share_b"),
    [
        (100, 0.02, 0.05),
        (100, 0.1, 0.1),
        (360, 0.01, 0.01),
        (360, 0.005, 0.02),
        (360, 0.02, 0.05),
        (360, 0.0, 0.05),
    ],
)
def test_the_paired_interval_covers(count: int, share_a: float, share_b: float) -> None:
    covered, _ = exactly(count, share_a, share_b)
    assert 0.945 < covered < 0.97


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.005, 0.005), (0.01, 0.01), (0.005, 0.02)])
def test_of_few_disagreements_it_covers_at_least_as_often(shares: tuple[float, float]) -> None:
    covered, _ = exactly(100, *shares)
    assert covered > 0.95


@pytest.mark.parametrize("count", [20, 100, 360])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_mcnemar_errs_at_most_as_often_as_it_says(count: int, share: float) -> None:
    _, rejected = exactly(count, share, share)
    assert rejected <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [100, 360, 1000])
def test_the_paired_interval_covers_everywhere(count: int) -> None:
    """Over a grid, where seven disagreements or more are expected."""
    for share_a in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        for share_b in (0.01, 0.02, 0.05, 0.1, 0.2):
            if count * (share_a + share_b) < 7 or count * max(share_a, share_b) > 120:
                continue
            covered, rejected = exactly(count, share_a, share_b)
            assert 0.945 < covered < 0.97, (share_a, share_b)
            if share_a == share_b:
                assert rejected <= 0.05


def often(interval: Callable[[], Estimate], truth: float, times: int) -> float:
    """Return the share of intervals that hold the truth."""
    hits = 0
    for _ in range(times):
        found = interval()
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    return hits / times


def crossed(draw: np.random.Generator, seeds: int, *, of_seed: float, count: int) -> np.ndarray:
    """Return answers [count, seeds], normal, with variances of seed, sample and both together."""
    own = draw.normal(size=(count, 1)) * 0.5 + draw.normal(size=seeds) * of_seed
    return np.asarray(own + draw.normal(size=(count, seeds)))


@pytest.mark.parametrize(("seeds", "of_seed"), [(2, 0.1), (2, 0.5), (3, 0.02), (3, 0.5), (5, 0.1)])
def test_the_interval_over_seeds_covers(seeds: int, of_seed: float) -> None:
    draw, times = np.random.default_rng(0), 1500

    def interval() -> Estimate:
        one, two = (crossed(draw, seeds, of_seed=of_seed, count=100) for _ in range(2))
        return difference_over_seeds(one, two).estimate

    # Three standard errors of such a simulation are 1.7 points; two seeds cover up to 98 %.
    assert 0.933 < often(interval, 0, times) < 0.985


def test_right_and_wrong_over_seeds_covers() -> None:
    """Answers that are right or wrong, whose logits vary with seed and sample."""
    draw, times = np.random.default_rng(2), 800

    def answers() -> np.ndarray:
        return np.asarray(crossed(draw, 3, of_seed=0.2, count=300) * 0.6 + 1 > 0)

    def interval() -> Estimate:
        one, two = 100.0 * answers(), 100.0 * answers()
        return difference_over_seeds(one, two, unit=100.0).estimate

    assert 0.93 < often(interval, 0, times) < 0.99


def losses(draw: np.random.Generator, count: int) -> np.ndarray:
    """Return differences of two models' losses, with the long tails that losses have."""
    shared = 1.2 * draw.normal(size=count)
    one, two = (np.exp(-2 + shared + 0.6 * draw.normal(size=count)) for _ in range(2))
    return np.asarray(two - one)


def test_the_bootstrap_of_losses_covers() -> None:
    draw, seeds = np.random.default_rng(0), iter(range(10_000))

    def interval() -> Estimate:
        values = losses(draw, 200)[:, None]
        return bootstrap_of_means(values, seed=next(seeds), resamples=400)[0]

    assert 0.92 < often(interval, 0, 300) < 0.98


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [360, 1000])
def test_the_bootstrap_of_losses_covers_within_two_points(count: int) -> None:
    draw, seeds = np.random.default_rng(1), iter(range(10_000))

    def interval() -> Estimate:
        values = losses(draw, count)[:, None]
        return bootstrap_of_means(values, seed=next(seeds), resamples=2000)[0]

    assert 0.93 < often(interval, 0, 2000) < 0.97
