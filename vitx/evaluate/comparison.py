"""Several runs on the same samples, pair by pair: what differs, and whether that is shown.

Shapes: N samples, S runs of a unit. A unit is one run, or several that differ only by seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitx.evaluate.bootstrap import bootstrap_of_means
from vitx.evaluate.holm import holm
from vitx.evaluate.over_seeds import difference_over_seeds
from vitx.evaluate.paired import (
    Disagreement,
    Estimate,
    accuracy_difference,
    disagreement,
    mcnemar,
)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is compared: a run, or several that differ only by seed.

    Attributes:
        name: what it is called.
        correct: [N, S] bool.
        prediction: [N, S] class numbers.
        loss: [N, S] in nats; None where a run has none.
    """

    name: str
    correct: np.ndarray
    prediction: np.ndarray
    loss: np.ndarray | None

    @property
    def seeds(self) -> int:
        """Number of its runs."""
        return int(self.correct.shape[1])


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """One class of two units.

    Attributes:
        number: class number.
        count: samples with this label.
        a_top1: accuracy of the first on them, in percent.
        b_top1: that of the second.
        top1: the difference in points.
        p: as of the comparison.
        p_corrected: over the classes of this comparison.
    """

    number: int
    count: int
    a_top1: float
    b_top1: float
    top1: Estimate
    p: float
    p_corrected: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two units: the second minus the first.

    Attributes:
        a: name of the first.
        b: name of the second.
        a_seeds: runs of the first; of one, what another seed would do is not known.
        b_seeds: those of the second.
        top1: difference of accuracy in points.
        loss: difference of the mean loss in nats; None where a run has none.
        test: what `p` is of.
        p: two-sided, that the accuracies are equal.
        p_corrected: over the comparisons that were asked for together, by Holm's method.
        disagreement: where the predictions differ; None between groups.
        classes: every class that has samples.
    """

    a: str
    b: str
    a_seeds: int
    b_seeds: int
    top1: Estimate
    loss: Estimate | None
    test: str
    p: float
    p_corrected: float
    disagreement: Disagreement | None
    classes: tuple[ClassDifference, ...]

    @property
    def over_seeds(self) -> bool:
        """Whether the interval is over seeds too."""
        return max(self.a_seeds, self.b_seeds) > 1

    def shown(self, level: float) -> bool:
        """Whether a difference of accuracy is shown at this level."""
        return self.p_corrected < 1 - level and self.top1.value != 0


def compare(
    pairs: Sequence[tuple[Unit, Unit]], label: np.ndarray, *, level: float, seed: int
) -> list[Comparison]:
    """Compare pairs of units; their tests of accuracy are one family.

    Args:
        pairs: first and second of each.
        label: [N] class numbers.
        level: of the intervals.
        seed: what resamples follow from.

    Returns:
        One comparison a pair, in their order.
    """
    losses = _loss_differences(pairs, level, seed)
    found = [_compared(*pair, label, loss, level) for pair, loss in zip(pairs, losses, strict=True)]
    corrected = holm([each.p for each in found])
    return [
        dataclasses.replace(each, p_corrected=p) for each, p in zip(found, corrected, strict=True)
    ]


def mean_loss(loss: np.ndarray | None) -> float | None:
    """Return the mean of [N] losses, in nats; None without them."""
    return None if loss is None else math.fsum(loss) / len(loss)


def _loss_differences(
    pairs: Sequence[tuple[Unit, Unit]], level: float, seed: int
) -> list[Estimate | None]:
    """Return the difference of each pair in loss; those of two runs from the same resamples."""
    found: list[Estimate | None] = [None] * len(pairs)
    places, columns = [], []
    for place, (a, b) in enumerate(pairs):
        if a.loss is None or b.loss is None or not (_finite(a.loss) and _finite(b.loss)):
            continue
        if a.seeds == b.seeds == 1:
            places.append(place)
            columns.append((b.loss - a.loss)[:, 0])
        else:
            found[place] = difference_over_seeds(a.loss, b.loss, level=level).estimate
    if columns:
        drawn = bootstrap_of_means(np.stack(columns, axis=1), seed=seed, level=level)
        for place, estimate in zip(places, drawn, strict=True):
            found[place] = estimate
    return found


def _finite(loss: np.ndarray) -> bool:
    return bool(np.isfinite(loss).all())


def _compared(
    a: Unit, b: Unit, label: np.ndarray, loss: Estimate | None, level: float
) -> Comparison:
    top1, p = _accuracy(a.correct, b.correct, level)
    alone = a.seeds == b.seeds == 1
    differ = (a.prediction[:, 0] != b.prediction[:, 0]) | (a.correct[:, 0] != b.correct[:, 0])
    return Comparison(
        a=a.name,
        b=b.name,
        a_seeds=a.seeds,
        b_seeds=b.seeds,
        top1=top1,
        loss=loss,
        test="McNemar, exact" if alone else "Student's t over seeds and samples",
        p=p,
        p_corrected=p,
        disagreement=disagreement(differ, a.correct[:, 0], b.correct[:, 0], level=level)
        if alone
        else None,
        classes=_by_class(a, b, label, level),
    )


def _accuracy(correct_a: np.ndarray, correct_b: np.ndarray, level: float) -> tuple[Estimate, float]:
    """Return the difference of accuracy in points, and the p that there is none."""
    if correct_a.shape[1] == correct_b.shape[1] == 1:
        one, two = correct_a[:, 0], correct_b[:, 0]
        return accuracy_difference(one, two, level=level), mcnemar(one, two)
    found = difference_over_seeds(100.0 * correct_a, 100.0 * correct_b, level=level, unit=100.0)
    return found.estimate, found.p


def _by_class(a: Unit, b: Unit, label: np.ndarray, level: float) -> tuple[ClassDifference, ...]:
    found = []
    for number in np.unique(label):
        own = label == number
        top1, p = _accuracy(a.correct[own], b.correct[own], level)
        found.append(
            ClassDifference(
                number=int(number),
                count=int(own.sum()),
                a_top1=100 * float(a.correct[own].mean()),
                b_top1=100 * float(b.correct[own].mean()),
                top1=top1,
                p=p,
                p_corrected=p,
            )
        )
    corrected = holm([each.p for each in found])
    return tuple(
        dataclasses.replace(each, p_corrected=p) for each, p in zip(found, corrected, strict=True)
    )
