"""What a classifier said of each sample: the columns of a per-sample table.

Shapes: Q samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vitx.errors import DataError
from vitx.evaluate.metrics import ranks

ROWS_AT_ONCE = 16384
"""Rows of features that are looked at together where all of them would take too much memory."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was said of Q samples, in their order; [Q] tensors on the CPU.

    Attributes:
        label: int64, the true class.
        prediction: int64, the class with the highest score; of equals the lowest.
        rank: int32, the place of the label among the scores from 0; of equals the lowest class
            comes first.
        confidence: float32, the probability of the prediction.
        loss: float64, negative log-likelihood of the label in nats; infinite where a classifier
            gives it no probability at all.
        brier: float64, sum of squared differences between probabilities and the one-hot label.

    The last three are NaN where a classifier has scores and no probabilities.
    """

    label: Tensor
    prediction: Tensor
    rank: Tensor
    confidence: Tensor
    loss: Tensor
    brier: Tensor

    @classmethod
    def of(
        cls, scores: Tensor, labels: Tensor, *, log_probabilities: Tensor | None = None
    ) -> Answers:
        """Read answers off scores.

        Args:
            scores: [Q, C], by which classes are ordered.
            labels: [Q] int64.
            log_probabilities: [Q, C] float64 in nats; None where there are none.

        Returns:
            What they say.

        Raises:
            DataError: a label is not among the classes.
        """
        check_labels(labels, scores.shape[1])
        labels = labels.to(scores.device)
        prediction = scores.argmax(1)
        if log_probabilities is None:
            confidence = loss = brier = torch.full((len(scores),), math.nan, dtype=torch.float64)
        else:
            probabilities = log_probabilities.exp()
            right = probabilities.gather(1, labels[:, None])[:, 0]
            confidence = probabilities.gather(1, prediction[:, None])[:, 0]
            loss = -log_probabilities.gather(1, labels[:, None])[:, 0]
            brier = probabilities.square().sum(1) - right.square() + (1 - right).square()
        return cls(
            label=labels.cpu(),
            prediction=prediction.cpu(),
            rank=ranks(scores, labels).int().cpu(),
            confidence=confidence.to("cpu", torch.float32),
            loss=loss.to("cpu", torch.float64) + 0.0,  # of a certainty 0, not -0
            brier=brier.to("cpu", torch.float64),
        )

    @classmethod
    def of_logits(cls, logits: Tensor, labels: Tensor) -> Answers:
        """Read answers off [Q, C] logits, with their softmax in float64 as probabilities."""
        wide = logits.double()
        return cls.of(wide, labels, log_probabilities=wide.log_softmax(1))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers of several parts, one after the other."""
        return cls(
            **{
                each.name: torch.cat([getattr(part, each.name) for part in parts])
                for each in fields(cls)
            }
        )

    @property
    def count(self) -> int:
        """Q."""
        return len(self.label)

    def correct_count(self, k: int = 1) -> int:
        """Return of how many samples the label is among the `k` highest scores."""
        return int((self.rank < k).sum())

    def top(self, k: int = 1) -> float:
        """Return the top-k accuracy in percent."""
        return 100.0 * self.correct_count(k) / self.count


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that are no class.

    Raises:
        DataError: one is not among 0 to `num_classes` - 1, or there is none at all.
    """
    if not len(labels):
        raise DataError("there is no sample with a label")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise DataError(f"label {wrong}: expected 0 to {num_classes - 1}, the classes")


def check_features(features: Tensor, what: str) -> None:
    """Refuse features that no distance can be measured between.

    Args:
        features: [N, D].
        what: whose they are, for the error.

    Raises:
        DataError: there are none, or one is NaN or infinite.
    """
    if features.ndim != 2 or not features.numel():
        raise DataError(f"{what} have the shape {tuple(features.shape)}: expected [N, D]")
    for start in range(0, len(features), ROWS_AT_ONCE):
        refuse_non_finite(features[start : start + ROWS_AT_ONCE].isfinite().all(1), start, what)


def refuse_non_finite(finite: Tensor, first: int, what: str) -> None:
    """Refuse rows that are not finite.

    Args:
        finite: [R] bool.
        first: number of the first of them.
        what: whose they are.

    Raises:
        DataError: one is not.
    """
    if not finite.all():
        row = first + int((~finite).nonzero()[0])
        raise DataError(f"row {row} of the {what} is NaN or infinite; was the model trained?")
