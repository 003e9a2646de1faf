"""The numbers of an evaluation, each with its 95 % interval, from what was said of each sample.

Every sum over samples is exact, so that a number depends on the samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitx.evaluate.calibration import BINS, calibration
from vitx.evaluate.judging import PerSample
from vitx.records import NORMAL_95, wilson_interval

_MOST_CONFUSIONS = 20


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Accuracy on the samples of one class.

    Attributes:
        name: of the class.
        count: its samples.
        correct: those that are right.
    """

    name: str
    count: int
    correct: int

    def as_dict(self) -> dict[str, Any]:
        """Return it with its accuracy and Wilson interval, in percent."""
        return {
            **asdict(self),
            "top1": 100 * self.correct / self.count,
            "top1_interval": list(wilson_interval(self.correct, self.count)),
        }


def summarise(
    samples: PerSample, classes: Sequence[str], *, several_labels: bool = False, bins: int = BINS
) -> dict[str, Any]:
    """Return the numbers of an evaluation as they stand in eval/<suite>.json.

    Accuracies are in percent, with Wilson intervals; means of losses and Brier scores have those
    of the normal approximation. What takes probabilities is left out where there are none, and
    the loss where neighbours gave a label no vote at all.

    Args:
        samples: what was said of each; one at least.
        classes: names of the C classes.
        several_labels: of a sample several classes may be right: what asks for the likelihood of
            the label, or for its class, is left out.
        bins: of the calibration error.
    """
    count, right = len(samples), int(samples.correct.sum())
    top5 = int((samples.rank < 5).sum())
    numbers: dict[str, Any] = {
        "top1": 100 * right / count,
        "top1_interval": list(wilson_interval(right, count)),
        "top5": 100 * top5 / count,
        "top5_interval": list(wilson_interval(top5, count)),
        "count": count,
    }
    if not np.isnan(samples.confidence).any():
        numbers |= asdict(calibration(samples.confidence, samples.correct, bins=bins))
    if several_labels:
        return numbers
    for name in ("loss", "brier"):
        values = getattr(samples, name)
        if np.isfinite(values).all():
            numbers[name] = math.fsum(values) / count
            numbers[f"{name}_interval"] = mean_interval(values)
    by_class = per_class(samples, classes)
    mean, interval = mean_per_class(by_class)
    return numbers | {
        "mean_per_class": mean,
        "mean_per_class_interval": interval,
        "per_class": [each.as_dict() for each in by_class],
        "confusions": most_confused(samples, classes),
    }


def per_class(samples: PerSample, classes: Sequence[str]) -> list[ClassScore]:
    """Return the accuracy of each class that has a sample, in their order."""
    counts = np.bincount(samples.label, minlength=len(classes))
    right = np.bincount(samples.label[samples.correct], minlength=len(classes))
    return [
        ClassScore(name=name, count=int(count), correct=int(correct))
        for name, count, correct in zip(classes, counts, right, strict=True)
        if count
    ]


def mean_per_class(scores: Sequence[ClassScore]) -> tuple[float, list[float]]:
    """Return the mean of the classes' accuracies and its interval, in percent.

    Each class counts the same, however many samples it has; classes without any are left out. The
    variance is the sum of the classes' own, with two successes and two failures added to each (A.
    Agresti, B. Coull, The American Statistician 52 (1998)), else one class without an error would
    be known for sure.
    """
    total = len(scores)
    mean = math.fsum(each.correct / each.count for each in scores) / total
    shares = [((each.correct + 2) / (each.count + 4), each.count + 4) for each in scores]
    half = NORMAL_95 * math.sqrt(math.fsum(p * (1 - p) / n for p, n in shares)) / total
    return 100 * mean, [100 * max(0.0, mean - half), 100 * min(1.0, mean + half)]


def most_confused(samples: PerSample, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most frequent errors: a label, what was said instead, and how often."""
    wrong = ~samples.correct
    pairs, counts = np.unique(
        samples.label[wrong] * len(classes) + samples.prediction[wrong], return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:_MOST_CONFUSIONS]
    return [
        {
            "label": classes[int(pair) // len(classes)],
            "prediction": classes[int(pair) % len(classes)],
            "count": int(count),
        }
        for pair, count in zip(pairs[order], counts[order], strict=True)
    ]


def mean_interval(values: npt.NDArray[np.float64]) -> list[float] | None:
    """Return the interval of a mean; None where one sample says nothing of it."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((values - mean) ** 2) / (count - 1) / count)
    return [mean - NORMAL_95 * spread, mean + NORMAL_95 * spread]
