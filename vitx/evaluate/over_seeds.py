"""Two methods, each trained with several seeds, on the same samples: their difference.

Shapes: N samples, S seeds. Samples and seeds are crossed: every trained model answers every sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vitx.evaluate.paired import Estimate


@dataclass(frozen=True, kw_only=True)
class SeedMean:
    """The mean of several trained models.

    Attributes:
        mean: of what each of them has.
        standard_error: of that mean over seeds; None of one seed, whose variance is not known.
        seeds: how many.
    """

    mean: float
    standard_error: float | None
    seeds: int


@dataclass(frozen=True, kw_only=True)
class SeedDifference:
    """The difference of two means, the second minus the first.

    Attributes:
        estimate: with its interval over samples and over the seeds of whichever has several.
        standard_error: of the difference; None of one sample.
        freedom: degrees of freedom of that error; None of one sample.
        p: two-sided, of Student's t.
    """

    estimate: Estimate
    standard_error: float | None
    freedom: float | None
    p: float


def over_seeds(values: np.ndarray) -> SeedMean:
    """Return the mean of [S] numbers, one a seed, and its standard error."""
    seeds = len(values)
    spread = float(np.std(values, ddof=1)) if seeds > 1 else None
    return SeedMean(
        mean=math.fsum(values) / seeds,
        standard_error=None if spread is None else spread / math.sqrt(seeds),
        seeds=seeds,
    )


def difference_over_seeds(
    values_a: np.ndarray, values_b: np.ndarray, *, level: float = 0.95, unit: float = 0.0
) -> SeedDifference:
    """Return the difference of the means of two methods, with other samples and seeds in mind.

    Two things vary: which samples are asked, in the difference of the mean answers to each, and
    what training comes to, in the means of the seeds of either method (seeds of the same number
    are not taken for pairs). How seed and sample go together varies both, so it is taken off once;
    degrees of freedom are Satterthwaite's (Biometrics Bulletin 2 (1946)). A bootstrap over seeds
    and samples, of so few seeds, is far too short: 70 % instead of 95 % for two seeds, 82 % for
    three, where this has 95 to 98 %: tests/evaluate/test_coverage.py.

    Args:
        values_a: [N, S] of the first method.
        values_b: [N, S] of the second; S may be another. Of one seed nothing is known of seeds,
            and the interval is for that trained model.
        level: of the interval.
        unit: where the values are 0 or this, half a sample of each kind of disagreement is added,
            as `paired.accuracy_difference` does; 0 adds none.

    Returns:
        The difference, in units of the values.
    """
    samples = len(values_a)
    of_samples = values_b.mean(axis=1) - values_a.mean(axis=1)
    value = math.fsum(of_samples) / samples
    if samples < 2:
        return SeedDifference(
            estimate=Estimate(value=value, low=None, high=None),
            standard_error=None,
            freedom=None,
            p=1.0,
        )
    squares = float(((of_samples - value) ** 2).sum()) + unit**2
    parts = [(squares / (samples - 1) / samples, samples - 1)]
    both = 0.0
    for values in (values_a, values_b):
        if (seeds := values.shape[1]) > 1:
            parts.append((float(values.mean(axis=0).var(ddof=1)) / seeds, seeds - 1))
            both += _residual_variance(values) / (samples * seeds)
    # At least what either source by itself would make of it.
    variance = max(sum(part for part, _ in parts) - both, parts[0][0], sum(p for p, _ in parts[1:]))
    if variance <= 0:
        return _certain(value)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    most = unit or math.inf  # no accuracy differs by more, whatever two seeds leave possible
    return SeedDifference(
        estimate=Estimate(value=value, low=max(value - half, -most), high=min(value + half, most)),
        standard_error=error,
        freedom=freedom,
        p=float(2 * stats.t.sf(abs(value) / error, freedom)),
    )


def _certain(value: float) -> SeedDifference:
    """Return the difference of methods that differ by the same for every seed and sample."""
    return SeedDifference(
        estimate=Estimate(value=value, low=value, high=value),
        standard_error=0.0,
        freedom=None,
        p=0.0 if value else 1.0,
    )


def _residual_variance(values: np.ndarray) -> float:
    """Return what of [N, S] values is neither of the sample nor of the seed, as mean square."""
    samples, seeds = values.shape
    of_sample, of_seed = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = values - of_sample - of_seed + values.mean()
    squares = float((rest**2).sum())
    return squares / float((samples - 1) * (seeds - 1))
