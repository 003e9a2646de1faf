"""Mean corruption error: how much a model loses to corruptions, beside AlexNet and by itself.

Source: D. Hendrycks, T. Dietterich, ICLR 2019 (arXiv 1903.12261), section 4.1. With E the top-1
error at severity s of corruption c, A the one of AlexNet, and 0 for pictures as they are,

    mCE = mean over c of  sum over s of E(c, s) / sum over s of A(c, s)
    relative mCE = mean over c of  sum over s of (E(c, s) - E(0)) / sum over s of (A(c, s) - A(0))

in percent, so that AlexNet has 100. AlexNet's errors are constants that define the figures, so
nothing is uncertain about them, and each figure is a weighted sum of the model's own errors.

All evaluations are of the same pictures and go wrong together, so they may not be taken as
independent: that would make intervals several times too narrow. Two ways are left, for two kinds
of input:

- `of_pictures` knows which pictures went wrong. It gives each picture its own weighted sum; the
  figure is their mean, and its 95 % interval follows from their spread.
- `of_tallies` knows counts alone. It puts the ends of every evaluation's 95 % Wilson interval into
  the formula at once. That covers at least as often whatever the evaluations have in common,
  since the deviation of a sum is at most the sum of deviations; it is usually too wide.

Shapes: S severities, N pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitx.errors import DataError
from vitx.evaluate.corruptions import alexnet
from vitx.evaluate.corruptions.table import COMMON, SEVERITIES
from vitx.records import NORMAL_95, wilson_interval

Wrong = npt.NDArray[np.bool_]


class Tally(NamedTuple):
    """How many of some pictures were classified wrong."""

    wrong: int
    pictures: int


@dataclass(frozen=True)
class Figure:
    """A number in percent, with its 95 % interval."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class CorruptionScores:
    """What became of a model under corruptions; all in percent.

    Attributes:
        wrong: pictures classified wrong, by corruption and severity.
        count: pictures of each of these evaluations; the fewest, where they differ.
        accuracy: mean top-1 over all of them, not measured by another model.
        severity_accuracy: the same at each severity.
        corruption_accuracy: the same of each corruption.
        corruption_error: of each corruption, in percent of AlexNet's; none without AlexNet.
        mce: their mean; None without AlexNet.
        relative_mce: of what is lost beside pictures as they are; None without those or AlexNet.
        interval: `pictures` or `tallies`, by what the intervals are made.
    """

    wrong: Mapping[str, tuple[int, ...]]
    count: int
    accuracy: Figure
    severity_accuracy: tuple[float, ...]
    corruption_accuracy: Mapping[str, float]
    corruption_error: Mapping[str, float]
    mce: Figure | None
    relative_mce: Figure | None
    interval: str

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return asdict(self)


def of_tallies(
    tallies: Mapping[str, Sequence[Tally]], *, clean: Tally | None = None, beside_alexnet: bool
) -> CorruptionScores:
    """Score a model by how many pictures it got wrong.

    Args:
        tallies: by corruption, of severity 1 to 5.
        clean: of the same pictures as they are.
        beside_alexnet: pictures and classes are those of ImageNet, so that its errors apply.

    Returns:
        Scores whose intervals hold for any dependence between evaluations.

    Raises:
        DataError: an evaluation is missing or of no pictures.
    """
    _check({name: len(row) for name, row in tallies.items()}, beside_alexnet=beside_alexnet)
    cells = [tally for row in tallies.values() for tally in row] + ([clean] if clean else [])
    if not all(0 <= tally.wrong <= tally.pictures and tally.pictures for tally in cells):
        raise DataError("an evaluation has no pictures, or more of them wrong than there are")
    rates = [_percent(*tally) for tally in cells]
    ends = [wilson_interval(*tally) for tally in cells]

    def figure(sum_: _WeightedSum) -> Figure:
        # The errors that make the figure smallest: low where they count for it, high against it.
        low = [pair[weight < 0] for weight, pair in zip(sum_.weights, ends, strict=True)]
        high = [pair[weight > 0] for weight, pair in zip(sum_.weights, ends, strict=True)]
        return Figure(sum_.of(rates), (sum_.of(low), sum_.of(high)))

    return _scores(tallies, clean, figure, beside_alexnet=beside_alexnet, interval="tallies")


def of_pictures(
    wrong: Mapping[str, Wrong], *, clean: Wrong | None = None, beside_alexnet: bool
) -> CorruptionScores:
    """Score a model by which pictures it got wrong.

    Args:
        wrong: by corruption, [S, N], the N pictures in the same order everywhere.
        clean: [N], of the same pictures as they are.
        beside_alexnet: pictures and classes are those of ImageNet, so that its errors apply.

    Returns:
        Scores whose intervals are those of a mean over pictures drawn independently.

    Raises:
        DataError: an evaluation is missing, of fewer than two pictures or of others.
    """
    _check({name: len(row) for name, row in wrong.items()}, beside_alexnet=beside_alexnet)
    rows = [row for rows in wrong.values() for row in rows] + ([] if clean is None else [clean])
    count = len(rows[0])
    if count < 2 or any(row.shape != (count,) for row in rows):
        raise DataError("expected the same pictures, two at least, in every evaluation")

    def figure(sum_: _WeightedSum) -> Figure:
        # [N]; added up evaluation by evaluation, since all of them at once are 30 MB as numbers.
        own = np.zeros(count)
        for weight, row in zip(sum_.weights, rows, strict=True):
            own += weight * 100.0 * row
        value = sum_.of([_percent(int(row.sum()), count) for row in rows])
        half = NORMAL_95 * float(own.std(ddof=1)) / math.sqrt(count)
        return Figure(value, (value - half, value + half))

    tallies = {name: [_tally(row) for row in rows_] for name, rows_ in wrong.items()}
    clean_tally = None if clean is None else _tally(clean)
    return _scores(tallies, clean_tally, figure, beside_alexnet=beside_alexnet, interval="pictures")


class _WeightedSum(NamedTuple):
    """A figure as a sum over error rates: corruption by corruption, that of `clean` last."""

    constant: float
    weights: tuple[float, ...]

    def of(self, rates: Sequence[float]) -> float:
        terms = (weight * rate for weight, rate in zip(self.weights, rates, strict=True))
        return math.fsum((self.constant, *terms))


def _scores(
    tallies: Mapping[str, Sequence[Tally]],
    clean: Tally | None,
    figure: Callable[[_WeightedSum], Figure],
    *,
    beside_alexnet: bool,
    interval: str,
) -> CorruptionScores:
    errors = {name: [_percent(*each) for each in row] for name, row in tallies.items()}
    has_clean = clean is not None
    return CorruptionScores(
        wrong={name: tuple(each.wrong for each in row) for name, row in tallies.items()},
        count=min(each.pictures for row in tallies.values() for each in row),
        accuracy=figure(_mean_accuracy(len(errors), has_clean=has_clean)),
        severity_accuracy=tuple(
            100 - math.fsum(column) / len(column) for column in zip(*errors.values(), strict=True)
        ),
        corruption_accuracy={name: 100 - math.fsum(row) / len(row) for name, row in errors.items()},
        corruption_error={
            name: 100 * math.fsum(row) / math.fsum(_alexnet(name)) for name, row in errors.items()
        }
        if beside_alexnet
        else {},
        mce=figure(_mce(errors, has_clean=has_clean)) if beside_alexnet else None,
        relative_mce=figure(_relative_mce(errors)) if beside_alexnet and has_clean else None,
        interval=interval,
    )


def _mean_accuracy(corruptions: int, *, has_clean: bool) -> _WeightedSum:
    evaluations = corruptions * len(SEVERITIES)
    return _WeightedSum(100.0, (-1 / evaluations,) * evaluations + (0.0,) * has_clean)


def _mce(names: Iterable[str], *, has_clean: bool) -> _WeightedSum:
    weights = [100 / (len(COMMON) * math.fsum(_alexnet(name))) for name in names]
    return _WeightedSum(0.0, _each_severity(weights) + (0.0,) * has_clean)


def _relative_mce(names: Iterable[str]) -> _WeightedSum:
    clean = _percent(alexnet.CLEAN_WRONG, alexnet.COUNT)
    lost = [math.fsum(error - clean for error in _alexnet(name)) for name in names]
    weights = [100 / (len(COMMON) * each) for each in lost]
    return _WeightedSum(0.0, (*_each_severity(weights), -len(SEVERITIES) * math.fsum(weights)))


def _each_severity(weights: Iterable[float]) -> tuple[float, ...]:
    return tuple(weight for weight in weights for _ in SEVERITIES)


def _alexnet(name: str) -> list[float]:
    return [_percent(wrong, alexnet.COUNT) for wrong in alexnet.WRONG[name]]


def _tally(wrong: Wrong) -> Tally:
    return Tally(int(wrong.sum()), len(wrong))


def _percent(wrong: int, count: int) -> float:
    return 100 * wrong / count


def _check(lengths: Mapping[str, int], *, beside_alexnet: bool) -> None:
    if beside_alexnet and set(lengths) != set(COMMON):
        missing = [name for name in COMMON if name not in lengths]
        others = [name for name in lengths if name not in COMMON]
        raise DataError(
            "mean corruption error is of the 15 corruptions of ImageNet-C: "
            f"missing {', '.join(missing) or 'none'}; not of them {', '.join(others) or 'none'}"
        )
    if not lengths:
        raise DataError("expected one corruption at least, got none")
    for name, length in lengths.items():
        if length != len(SEVERITIES):
            raise DataError(f"{name}: expected {len(SEVERITIES)} severities, got {length}")
