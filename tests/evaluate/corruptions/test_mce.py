"""Mean corruption error against published constants, hand computation and simulation."""

import json
import math

import numpy as np
import pytest

from vitx.errors import DataError
from vitx.evaluate.corruptions import COMMON, SEVERITIES, alexnet
from vitx.evaluate.corruptions.mce import CorruptionScores, Tally, of_pictures, of_tallies
from vitx.records import wilson_interval

# Mean error of AlexNet by corruption, as AugMix's imagenet.py has it.
PUBLISHED = dict(
    zip(
        COMMON,
        (
            *(0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816),
            *(0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500),
        ),
        strict=True,
    )
)


def alexnet_tallies() -> dict[str, list[Tally]]:
    return {
        name: [Tally(wrong, alexnet.COUNT) for wrong in row] for name, row in alexnet.WRONG.items()
    }


def random_pictures(count: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pictures that are hard or easy everywhere, as real ones are."""
    draws = np.random.default_rng(seed)
    hardness = draws.normal(size=count)
    clean = hardness + 0.3 * draws.normal(size=count) > 0.7
    wrong = {
        name: np.stack(
            [hardness + 0.5 * draws.normal(size=count) > 0.8 - 0.3 * s for s in SEVERITIES]
        )
        for name in COMMON
    }
    return wrong, clean


def tallied(wrong: dict[str, np.ndarray]) -> dict[str, list[Tally]]:
    return {name: [Tally(int(row.sum()), len(row)) for row in rows] for name, rows in wrong.items()}


def test_errors_of_alexnet_are_the_published_ones() -> None:
    means = {name: sum(row) / (5 * alexnet.COUNT) for name, row in alexnet.WRONG.items()}
    assert list(means) == list(COMMON)
    assert means == pytest.approx(PUBLISHED, abs=1e-9)


def test_alexnet_has_100() -> None:
    clean = Tally(alexnet.CLEAN_WRONG, alexnet.COUNT)
    scores = of_tallies(alexnet_tallies(), clean=clean, beside_alexnet=True)
    assert scores.mce is not None and scores.relative_mce is not None
    assert scores.mce.value == pytest.approx(100)
    assert scores.relative_mce.value == pytest.approx(100)
    assert list(scores.corruption_error.values()) == pytest.approx([100] * 15)
    assert scores.accuracy.value == pytest.approx(100 - 100 * np.mean(list(PUBLISHED.values())))


def by_hand(wrong: dict[str, np.ndarray], clean: np.ndarray) -> tuple[float, float, float]:
    ratios, relative = [], []
    lost = alexnet.CLEAN_WRONG / alexnet.COUNT
    for name in COMMON:
        errors = wrong[name].mean(axis=1)
        theirs = np.array(alexnet.WRONG[name]) / alexnet.COUNT
        ratios.append(errors.sum() / theirs.sum())
        relative.append((errors - clean.mean()).sum() / (theirs - lost).sum())
    accuracy = 1 - np.mean([rows.mean() for rows in wrong.values()])
    return 100 * np.mean(ratios), 100 * np.mean(relative), 100 * accuracy


def values(scores: CorruptionScores) -> tuple[float, float, float]:
    assert scores.mce is not None and scores.relative_mce is not None
    return scores.mce.value, scores.relative_mce.value, scores.accuracy.value


def test_both_ways_give_the_numbers_computed_by_hand() -> None:
    wrong, clean = random_pictures(500)
    expected = by_hand(wrong, clean)
    one = of_pictures(wrong, clean=clean, beside_alexnet=True)
    tally = Tally(int(clean.sum()), 500)
    other = of_tallies(tallied(wrong), clean=tally, beside_alexnet=True)
    assert values(one) == pytest.approx(expected)
    assert values(other) == pytest.approx(expected)
    assert one.wrong == other.wrong and one.count == other.count == 500
    assert one.severity_accuracy == pytest.approx(
        [100 - 100 * np.mean([rows[s] for rows in wrong.values()]) for s in range(5)]
    )
    assert one.corruption_accuracy["fog"] == pytest.approx(100 - 100 * wrong["fog"].mean())
    # A pair (value, interval) by name, for eval/<suite>.json.
    assert json.loads(json.dumps(one.as_dict()))["mce"]["value"] == pytest.approx(expected[0])


def test_the_interval_of_pictures_covers_and_that_of_tallies_is_never_narrower() -> None:
    whole, whole_clean = random_pictures(200_000, seed=1)
    truth = by_hand(whole, whole_clean)
    covered = np.zeros(3)
    for start in range(0, 200_000, 500):
        part = slice(start, start + 500)
        wrong = {name: rows[:, part] for name, rows in whole.items()}
        clean = whole_clean[part]
        scores = of_pictures(wrong, clean=clean, beside_alexnet=True)
        wide = of_tallies(tallied(wrong), clean=Tally(int(clean.sum()), 500), beside_alexnet=True)
        for place, name in enumerate(("mce", "relative_mce", "accuracy")):
            low, high = getattr(scores, name).interval
            covered[place] += low <= truth[place] <= high
            lowest, highest = getattr(wide, name).interval
            assert highest - lowest > 0.99 * (high - low)
    # 95 of 100, of 400 tries: 1.1 is one deviation.
    assert np.all(np.abs(covered / 4 - 95) < 4)


def test_the_ends_by_tallies_are_those_of_every_evaluation() -> None:
    tallies = {"fog": [Tally(wrong, 40) for wrong in (0, 3, 20, 39, 40)]}
    scores = of_tallies(tallies, beside_alexnet=False)
    ends = [wilson_interval(40 - each.wrong, 40) for each in tallies["fog"]]
    low, high = scores.accuracy.interval
    assert low == pytest.approx(math.fsum(each[0] for each in ends) / 5)
    assert high == pytest.approx(math.fsum(each[1] for each in ends) / 5)
    assert scores.mce is scores.relative_mce is None
    assert scores.corruption_error == {}


def test_without_pictures_as_they_are_nothing_is_relative() -> None:
    scores = of_tallies(alexnet_tallies(), beside_alexnet=True)
    assert scores.mce is not None
    assert scores.relative_mce is None


def test_what_is_no_set_of_evaluations() -> None:
    few = alexnet_tallies()
    del few["snow"]
    few["spatter"] = few["fog"]
    with pytest.raises(DataError, match=r"missing snow; not of them spatter"):
        of_tallies(few, beside_alexnet=True)
    assert of_tallies(few, beside_alexnet=False).count == alexnet.COUNT
    with pytest.raises(DataError, match="fog: expected 5 severities, got 4"):
        of_tallies({"fog": few["fog"][:4]}, beside_alexnet=False)
    with pytest.raises(DataError, match="one corruption at least"):
        of_tallies({}, beside_alexnet=False)
    with pytest.raises(DataError, match="has no pictures"):
        of_tallies({"fog": [Tally(0, 0)] * 5}, beside_alexnet=False)
    with pytest.raises(DataError, match="the same pictures"):
        of_pictures(
            {"fog": np.zeros((5, 3), dtype=bool)},
            clean=np.zeros(4, dtype=bool),
            beside_alexnet=False,
        )
