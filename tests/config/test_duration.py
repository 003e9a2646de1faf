"""Durations, read and turned into steps, against sums done by hand."""

import pytest

from vitx.config.duration import Duration
from vitx.errors import UsageError


def steps(text: str, *, per_epoch: int = 100, total: int = 3000) -> int:
    duration = Duration.parse(text, setting="x")
    return duration.steps(steps_per_epoch=per_epoch, total_steps=total)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 3000),
        ("30ep", 3000),
        ("30 ep", 3000),
        (" 1ep ", 100),
        ("0.5ep", 50),
        ("0.01", 1),
        ("2500st", 2500),
        ("2500.0st", 2500),
        ("0st", 0),
        ("5%", 150),
        ("0.1%", 3),
        ("100%", 3000),
        ("0", 0),
    ],
)
def test_steps(text: str, expected: int) -> None:
    assert steps(text) == expected


def test_rounded_to_the_nearest_step() -> None:
    assert steps("0.333ep", per_epoch=10) == 3
    assert steps("0.36ep", per_epoch=10) == 4
    assert steps("5%", total=29) == 1  # 1.45
    assert steps("5%", total=31) == 2  # 1.55


def test_steps_do_not_depend_on_the_epoch() -> None:
    assert {steps("70st", per_epoch=n, total=t) for n in (1, 99) for t in (0, 5000)} == {70}


def test_equal_lengths_are_equal() -> None:
    assert Duration.parse("30", setting="a") == Duration.parse("30.0ep", setting="b")
    assert Duration.parse("30st", setting="a") != Duration.parse("30ep", setting="a")


@pytest.mark.parametrize(
    "text",
    ["", "ep", "-1ep", "+1ep", "1e3", "1_000", "10 steps", "10epochs", "5 %%", "nan", "inf", ".5ep",
     "1,5ep", "5.ep", "null", "10ep 5st", "1 000"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Duration.parse(text, setting="schedule.warmup")
    line = str(caught.value)
    assert line == (
        f"schedule.warmup={text}: expected a duration such as 10ep (epochs), 500st (steps) or 5%"
    )


@pytest.mark.parametrize(
    ("text", "reason"), [("1.5st", "whole numbers"), ("100.5%", "at most 100%"), ("101%", "100%")]
)
def test_what_can_not_be(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^epochs={text}: .*{reason}"):
        Duration.parse(text, setting="epochs")
