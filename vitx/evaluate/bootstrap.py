"""Bootstrap intervals of means: of differences of losses, for example.

Shapes: N samples, K quantities that are resampled together.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from scipy import stats

from vitx.evaluate.paired import Estimate

RESAMPLES = 10_000
_DRAWS = 1 << 16  # at once: they stay in the cache of a processor


def bootstrap_of_means(
    values: np.ndarray, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> list[Estimate]:
    """Return the mean of each quantity, with the bootstrap interval over samples.

    Samples are drawn with replacement, the same for all quantities; the ends are quantiles of the
    means that the draws come to. Percentile intervals are too short for few samples: those of
    Student's t are as much wider as these are made (T. Hesterberg, The American Statistician 69
    (2015), section 3.4). Of percentile, BCa and bootstrap-t the percentile is nearest to what it
    says for differences of losses, whose tails are long: 93 to 94 % at 95 % for 200 to 1000
    samples of such, tests/evaluate/test_coverage.py.

    Args:
        values: [N, K] finite.
        seed: what the draws follow from.
        level: of the intervals.
        resamples: how many draws.

    Returns:
        K estimates, without ends where N is 1.
    """
    count = len(values)
    means = [math.fsum(column) / count for column in values.T]
    if count < 2:
        return [Estimate(value=mean, low=None, high=None) for mean in means]
    draw = np.random.default_rng(seed)
    at_once = max(1, _DRAWS // count)
    drawn = np.concatenate(
        [
            _drawn(draw, values, min(at_once, resamples - done))
            for done in range(0, resamples, at_once)
        ]
    )
    tail = _widened((1 - level) / 2, count)
    ends = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [
        Estimate(value=mean, low=float(low), high=float(high))
        for mean, low, high in zip(means, *ends, strict=True)
    ]


def _drawn(draw: np.random.Generator, values: np.ndarray, resamples: int) -> np.ndarray:
    """Return the means [resamples, K] of some resamples."""
    count = len(values)
    rows = draw.integers(0, count, (resamples, count))
    rows += count * np.arange(resamples)[:, None]
    times = np.bincount(rows.ravel(), minlength=resamples * count)
    return np.asarray(times.reshape(resamples, count) @ values / count)


def _widened(tail: float, count: int) -> float:
    """Return the tail that makes a percentile interval as wide as Student's t has it."""
    wider = math.sqrt(count / (count - 1)) * float(stats.t.ppf(tail, count - 1))
    return NormalDist().cdf(wider)
