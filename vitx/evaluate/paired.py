"""Two runs on the same samples: difference of accuracy, McNemar's test, where they disagree.

Shapes: N samples. Everything is of booleans `correct_a`, `correct_b`, [N], in the same order. The
second run is compared with the first: a difference above 0 is in favour of the second.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import fft, stats

from vitx.records import wilson_interval

_HALF = 0.5  # of a sample, added to each kind of disagreement
_REACH = 12  # standard deviations of a difference, beyond which its probability is below 1e-30


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval; None for the ends where too few samples tell of any."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Cells:
    """How often which of two runs is right. Merging two disjoint parts is adding them."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """The samples for which two runs predict different classes, and who is right on them.

    Attributes:
        count: samples.
        a_right: of those, the first run is right.
        b_right: the second run is; on the rest neither.
        a_top1: accuracy of the first on them in percent, with its Wilson interval; None without
            such samples.
        b_top1: that of the second.
    """

    count: int
    a_right: int
    b_right: int
    a_top1: Estimate | None
    b_top1: Estimate | None


def cells(correct_a: np.ndarray, correct_b: np.ndarray) -> Cells:
    """Count the four kinds of samples."""
    return Cells(
        both=int((correct_a & correct_b).sum()),
        only_a=int((correct_a & ~correct_b).sum()),
        only_b=int((~correct_a & correct_b).sum()),
        neither=int((~correct_a & ~correct_b).sum()),
    )


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the two-sided p of McNemar's exact test: are both right equally often?

    Of the samples on which one alone is right, each is then right on half: a binomial test.
    Source: Q. McNemar, Psychometrika 12 (1947), with the binomial tail for its approximation.

    Args:
        correct_a: [N] bool, whether the first run is right.
        correct_b: [N] bool, whether the second is.

    Returns:
        The probability; 1 where no sample tells them apart.

    >>> a, b = np.array([1, 1, 1, 1, 1, 0], bool), np.array([1, 0, 0, 0, 0, 0], bool)
    >>> mcnemar(a, b)  # 2 / 2^4
    0.125
    """
    found = cells(correct_a, correct_b)
    return _binomial_p(found.only_b, found.only_a + found.only_b)


@functools.lru_cache(maxsize=1 << 16)  # of a thousand classes most have the same few counts
def _binomial_p(successes: int, trials: int) -> float:
    return min(1.0, float(stats.binomtest(successes, trials).pvalue)) if trials else 1.0


def bootstrap_distribution(
    count: int, share_a: float, share_b: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what infinitely many paired resamples come to, instead of drawing some of them.

    A resample draws `count` samples; on each the first alone is right with probability `share_a`,
    the second alone with `share_b`. The difference of the two counts is a sum of independent
    terms of -1, 0 and 1: its characteristic function is a power, and the probabilities are the
    inverse Fourier transform of that.

    Args:
        count: samples of a resample.
        share_a: probability that the first alone is right.
        share_b: probability that the second alone is.

    Returns:
        Whole differences of the counts, ascending, and their probabilities; those whose
        probability is below 1e-30 are left out.

    >>> differences, probabilities = bootstrap_distribution(1, 0.25, 0.5)
    >>> differences.tolist(), probabilities.round(12).tolist()
    ([-1, 0, 1], [0.25, 0.25, 0.5])
    """
    centre = round(count * (share_b - share_a))
    spread = math.sqrt(count * (share_a + share_b))
    reach = min(2 * count, math.ceil(_REACH * spread) + 40)
    size = fft.next_fast_len(2 * reach + 1, real=True)
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    power = (1 - share_a - share_b + share_b * turn + share_a / turn) ** count
    around = fft.irfft(power, size)  # the difference modulo size
    differences = np.arange(max(centre - reach, -count), min(centre + reach, count) + 1)
    return differences, np.clip(around[differences % size], 0, None)


def accuracy_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, *, level: float = 0.95
) -> Estimate:
    """Return by how much the second run is right more often, with its paired bootstrap interval.

    The interval is between two quantiles of the bootstrap distribution (percentile method, mid
    quantiles, since the counts are whole), with half a sample added to each of the two kinds of
    disagreement: two runs that agree everywhere are not known to be equal. What it covers is
    other samples of the same kind, for these two trained models. Computed exactly, its coverage
    at 95 % is 94.8 to 96.9 % where seven disagreements or more are expected, and never below 95 %
    for fewer, where it is too wide: tests/evaluate/test_coverage.py.

    Args:
        correct_a: [N] bool, whether the first run is right.
        correct_b: [N] bool, whether the second is.
        level: of the interval.

    Returns:
        Percentage points.
    """
    found = cells(correct_a, correct_b)
    low, high = _interval(found.count, found.only_a, found.only_b, level)
    return Estimate(
        value=100 * (found.only_b - found.only_a) / found.count, low=100 * low, high=100 * high
    )


@functools.lru_cache(maxsize=1 << 16)
def _interval(count: int, only_a: int, only_b: int, level: float) -> tuple[float, float]:
    padded = count + 2 * _HALF
    differences, probabilities = bootstrap_distribution(
        count, (only_a + _HALF) / padded, (only_b + _HALF) / padded
    )
    middles = np.cumsum(probabilities) - probabilities / 2
    tail = (1 - level) / 2
    low, high = np.interp([tail, 1 - tail], middles, differences) / count
    return float(low), float(high)


def proportion(successes: int, trials: int, *, level: float = 0.95) -> Estimate | None:
    """Return a share in percent with its Wilson interval; None of no trials."""
    if not trials:
        return None
    low, high = wilson_interval(successes, trials, NormalDist().inv_cdf((1 + level) / 2))
    return Estimate(value=100 * successes / trials, low=low, high=high)


def disagreement(
    differ: np.ndarray, correct_a: np.ndarray, correct_b: np.ndarray, *, level: float = 0.95
) -> Disagreement:
    """Return how both runs do where their predictions differ.

    Args:
        differ: [N] bool, whether the predictions do.
        correct_a: [N] bool, whether the first run is right.
        correct_b: [N] bool, whether the second is.
        level: of the intervals.
    """
    count = int(differ.sum())
    a_right, b_right = int(correct_a[differ].sum()), int(correct_b[differ].sum())
    return Disagreement(
        count=count,
        a_right=a_right,
        b_right=b_right,
        a_top1=proportion(a_right, count, level=level),
        b_top1=proportion(b_right, count, level=level),
    )
