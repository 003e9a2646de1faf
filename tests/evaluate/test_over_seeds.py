"""Groups over seeds, beside scipy's tests and variances done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vitx.evaluate.over_seeds import difference_over_seeds, over_seeds


def test_mean_and_standard_error() -> None:
    values = np.array([80.0, 82.0, 87.0])
    found = over_seeds(values)
    assert found.mean == pytest.approx(83)
    assert found.standard_error == pytest.approx(stats.sem(values))
    assert over_seeds(np.array([80.0])).standard_error is None


def test_one_seed_each_is_the_paired_t_test() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 30, 1))
    found = difference_over_seeds(one, two)
    test = stats.ttest_rel(two[:, 0], one[:, 0])
    ends = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((ends.low, ends.high))
    assert found.freedom == pytest.approx(29)


def test_where_samples_are_alike_it_is_welchs_test_of_the_seeds() -> None:
    one, two = np.array([0.1, 0.4, 0.2]), np.array([0.7, 0.9, 1.4, 0.8])
    found = difference_over_seeds(np.tile(one, (50, 1)), np.tile(two, (50, 1)))
    test = stats.ttest_ind(two, one, equal_var=False)
    ends = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert found.freedom == pytest.approx(test.df)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((ends.low, ends.high))


def test_the_standard_error_is_unbiased() -> None:
    """Over many draws of a crossed model, its square is the variance of the difference."""
    draw = np.random.default_rng(0)
    squares, values = [], []
    for _ in range(3000):
        seeds, samples = draw.normal(size=(2, 3)) * 0.3, draw.normal(size=(2, 40, 1))
        one, two = (samples[k] + seeds[k] + draw.normal(size=(40, 3)) for k in (0, 1))
        found = difference_over_seeds(one, two)
        assert found.standard_error is not None
        squares.append(found.standard_error**2)
        values.append(found.estimate.value)
    assert np.mean(squares) == pytest.approx(2 * (0.09 / 3 + 1 / 40 + 1 / 120), rel=0.06)
    assert np.var(values) == pytest.approx(np.mean(squares), rel=0.1)


def test_one_sample_and_equal_answers() -> None:
    one = difference_over_seeds(np.zeros((1, 3)), np.ones((1, 3)))
    assert (one.estimate.value, one.estimate.low, one.p) == (1, None, 1)
    same = difference_over_seeds(np.zeros((9, 2)), np.zeros((9, 2)))
    assert (same.estimate.value, same.estimate.low, same.p) == (0, 0, 1)
    counted = difference_over_seeds(np.ones((9, 2)), np.ones((9, 2)), unit=1.0)
    assert counted.estimate.low is not None and counted.estimate.low < 0
    assert counted.p == 1


def test_no_accuracy_differs_by_more_than_all() -> None:
    one = np.repeat([[0.0, 0.0]], 100, axis=0)
    two = np.repeat([[100.0, 0.0]], 100, axis=0)
    found = difference_over_seeds(one, two, unit=100.0).estimate
    assert (found.value, found.low, found.high) == (50, -100, 100)


def test_a_single_run_adds_no_variance_of_seeds() -> None:
    draw = np.random.default_rng(1)
    one, many = draw.normal(size=(60, 1)), draw.normal(size=(60, 4)) + [0, 1, 2, 3]
    single = difference_over_seeds(one, many)
    assert single.standard_error is not None
    assert single.standard_error > stats.sem(many.mean(axis=0)) * 0.99
    assert single.freedom is not None and single.freedom < 6
