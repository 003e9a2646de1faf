"""Differences of two runs, beside scipy, scikit-learn and sums done by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score

from vitx.evaluate.bootstrap import bootstrap_of_means
from vitx.evaluate.holm import holm
from vitx.evaluate.paired import (
    accuracy_difference,
    bootstrap_distribution,
    cells,
    disagreement,
    mcnemar,
    proportion,
)


def of_cells(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what two runs had right, with so many samples of each kind."""
    times = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], times), np.repeat(
        [True, False, True, False], times
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_difference_is_that_of_the_accuracies(seed: int) -> None:
    draw = np.random.default_rng(seed)
    label, said_a, said_b = draw.integers(0, 5, (3, 200))
    one, two = said_a == label, said_b == label
    expected = 100 * (accuracy_score(label, said_b) - accuracy_score(label, said_a))
    assert accuracy_difference(one, two).value == pytest.approx(expected)
    found = cells(one, two)
    assert (found.count, found.both + found.only_a) == (200, int(one.sum()))


@pytest.mark.parametrize("only_a", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("only_b", [0, 1, 2, 5, 9])
def test_mcnemar_is_the_sum_of_binomial_tails(only_a: int, only_b: int) -> None:
    trials, less = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(trials, k) for k in range(less + 1)) / 2**trials
    assert mcnemar(*of_cells(7, only_a, only_b, 3)) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_says_little_where_there_is_little() -> None:
    same = np.array([True, False, True])
    assert mcnemar(same, same) == 1.0
    assert mcnemar(np.array([True]), np.array([False])) == 1.0
    # Of N. Breslow's classical shape: 2 against 12.
    assert mcnemar(*of_cells(0, 2, 12, 0)) == pytest.approx(2 * (1 + 14 + 91) / 2**14)


@pytest.mark.parametrize(
    ("count", "share_a", "share_b"),
    [(1, 0.3, 0.2), (4, 0.1, 0.6), (6, 0.5, 0.5), (3, 0.0, 0.0), (5, 0.0, 1.0)],
)
def test_the_distribution_is_that_of_all_resamples(
    count: int, share_a: float, share_b: float
) -> None:
    """Every resample of so few samples, one by one."""
    expected: dict[int, float] = {}
    weight = {-1: share_a, 0: 1 - share_a - share_b, 1: share_b}
    for resample in itertools.product(weight, repeat=count):
        probability = math.prod(weight[each] for each in resample)
        expected[sum(resample)] = expected.get(sum(resample), 0) + probability
    differences, probabilities = bootstrap_distribution(count, share_a, share_b)
    assert differences.tolist() == list(range(-count, count + 1))
    wanted = [expected[each] for each in differences.tolist()]
    assert probabilities == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize("count", [2_000, 50_000, 1_200_000])
def test_the_distribution_of_many_samples_is_whole(count: int) -> None:
    differences, probabilities = bootstrap_distribution(count, 0.02, 0.05)
    mean = float(differences @ probabilities)
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)
    assert mean == pytest.approx(0.03 * count, rel=1e-9)
    variance = float((differences - mean) ** 2 @ probabilities)
    assert variance == pytest.approx(count * (0.07 - 0.03**2), rel=1e-6)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("counts", [(300, 30, 50, 20), (150, 40, 35, 75), (60, 0, 20, 20)])
def test_the_interval_is_that_of_drawn_resamples(
    counts: tuple[int, int, int, int], level: float
) -> None:
    one, two = of_cells(*counts)
    found = accuracy_difference(one, two, level=level)
    drawn = stats.bootstrap(
        (100.0 * two - 100.0 * one,),
        np.mean,
        confidence_level=level,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    step = 100 / len(one)
    # Half a sample of each kind, mid quantiles, and the noise of drawing: two steps in all.
    assert found.low == pytest.approx(drawn.low, abs=2 * step)
    assert found.high == pytest.approx(drawn.high, abs=2 * step)


def test_runs_that_agree_are_not_said_to_be_equal_for_certain() -> None:
    same = np.ones(100, bool)
    found = accuracy_difference(same, same)
    assert found.value == 0
    assert found.low is not None and found.high is not None
    assert found.low == pytest.approx(-found.high)
    assert 1 < found.high < 3
    one = accuracy_difference(np.array([False]), np.array([True]))
    assert (one.value, one.high) == (100, 100)
    assert one.low is not None and one.low < 0


def test_exchanging_the_runs_exchanges_the_signs() -> None:
    one, two = of_cells(50, 9, 4, 7)
    there, back = accuracy_difference(one, two), accuracy_difference(two, one)
    assert there.low is not None and there.high is not None
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert mcnemar(one, two) == mcnemar(two, one)


def test_who_is_right_where_they_disagree() -> None:
    one, two = of_cells(5, 3, 8, 4)
    differ = (one != two) | (np.arange(20) == 19)  # both wrong, not the same way
    found = disagreement(differ, one, two)
    assert (found.count, found.a_right, found.b_right) == (12, 3, 8)
    wilson = stats.binomtest(8, 12).proportion_ci(0.95, method="wilson")
    assert found.b_top1 is not None
    assert (found.b_top1.low, found.b_top1.high) == pytest.approx(
        (100 * wilson.low, 100 * wilson.high)
    )
    none = disagreement(np.zeros(20, bool), one, one)
    assert (none.count, none.a_top1) == (0, None)
    assert proportion(0, 0) is None


def test_bootstrap_of_means_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    values = draw.lognormal(size=(400, 2)) - [1.0, 2.0]
    found = bootstrap_of_means(values, seed=3)
    for place, each in enumerate(found):
        assert each.value == pytest.approx(values[:, place].mean())
        expected = stats.bootstrap(
            (values[:, place],), np.mean, n_resamples=10_000, method="percentile", rng=draw
        ).confidence_interval
        width = expected.high - expected.low
        assert each.low == pytest.approx(expected.low, abs=0.03 * width)
        assert each.high == pytest.approx(expected.high, abs=0.03 * width)
    assert found == bootstrap_of_means(values, seed=3)
    assert found != bootstrap_of_means(values, seed=4)


def test_means_of_few_and_of_equal_samples() -> None:
    (one,) = bootstrap_of_means(np.array([[0.5]]), seed=0)
    assert (one.value, one.low, one.high) == (0.5, None, None)
    (equal,) = bootstrap_of_means(np.full((9, 1), 0.25), seed=0, resamples=50)
    assert (equal.value, equal.low, equal.high) == (0.25, 0.25, 0.25)
    few = np.array([[0.0], [1.0], [4.0]])
    (wide,) = bootstrap_of_means(few, seed=0, level=0.5)
    assert wide.low is not None and wide.high is not None
    assert wide.low < 5 / 3 < wide.high


def test_resampling_leaves_the_global_state_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    bootstrap_of_means(np.arange(6.0).reshape(3, 2), seed=0, resamples=10)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.5]) == [1.0, 1.0, 1.0]
    assert holm([0.04, 0.001]) == pytest.approx([0.04, 0.002])
    draw = np.random.default_rng(0).random(7)
    corrected = holm(list(draw))
    # An equal way to say it: the k-th smallest against level / (m - k + 1), until one fails.
    for level in np.linspace(0.001, 0.999, 50):
        rejected = set[int]()
        for done, place in enumerate(np.argsort(draw)):
            if draw[place] > level / (len(draw) - done):
                break
            rejected.add(int(place))
        assert {k for k, p in enumerate(corrected) if p <= level} == rejected
