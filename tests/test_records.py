"""Results add up, and their interval is Wilson's."""

import pytest

from vitx.records import EvalResult, Plan, wilson_interval


# R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: four digits.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson_interval(successes, trials)
    assert found == pytest.approx((100 * low, 100 * high), abs=0.00501)
    # What is counted as a success is a matter of words.
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((100 - found[1], 100 - found[0]))


def test_bounds_solve_the_equation_they_come_from() -> None:
    """The score test is at its limit there: (p - share)^2 = z^2 p (1 - p) / n."""
    z = 1.959963984540054
    for successes, trials in ((1, 3), (360, 360), (7, 360), (8012, 10000)):
        for bound in wilson_interval(successes, trials):
            p = bound / 100
            distance = (p - successes / trials) ** 2
            assert distance == pytest.approx(z * z * p * (1 - p) / trials, abs=1e-12)


def test_never_outside_what_is_possible() -> None:
    for trials in (1, 2, 5, 50, 10000):
        assert wilson_interval(0, trials)[0] == pytest.approx(0, abs=1e-9)
        assert wilson_interval(trials, trials)[1] == pytest.approx(100, abs=1e-9)


def test_counts_and_what_follows_from_them() -> None:
    result = EvalResult(count=8, top1_count=5, top5_count=7, loss_sum=1.75, skipped=3)
    assert (result.top1, result.top5, result.loss) == (62.5, 87.5, 0.21875)
    written = result.as_dict()
    assert written["top1_interval"] == list(wilson_interval(5, 8))
    assert {name: written[name] for name in ("top1", "top5", "loss", "count", "skipped")} == {
        "top1": 62.5,
        "top5": 87.5,
        "loss": 0.21875,
        "count": 8,
        "skipped": 3,
    }


def test_accumulation_is_what_makes_a_batch() -> None:
    plan = Plan(steps_per_epoch=3, total_steps=9, batch_size=96, micro_batch=32)
    assert plan.accumulation == 3
