"""What a classifier said of each sample, in float64: sums are taken later, and exactly.

Shapes: B or Q samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vitx.errors import DataError

NOWHERE = 2**31 - 1
"""The place of a label that has no score: in no top-k."""


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the place of each label among the scores: 0 is the highest.

    A sample is right in top-k where its place is below k. Among equal scores the lower class
    number comes first, as in argmax. A label whose score is NaN is `NOWHERE`; a NaN elsewhere
    counts as higher.

    Args:
        logits: [B, C].
        labels: [B] int64.

    Returns:
        [B] int64 from 0 to C - 1, or `NOWHERE`.

    >>> ranks(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([1]))
    tensor([1])
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ahead = ~(logits <= own) | ((logits == own) & before)
    return ahead.sum(dim=1).masked_fill(own.squeeze(1).isnan(), NOWHERE)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was said of Q samples, in their order; [Q] tensors on the CPU.

    Attributes:
        label: int64, the true class.
        prediction: int64, the class with the highest score; of equals the lowest.
        rank: int32, the place of the label among the scores, as of `ranks`.
        confidence: float32, the probability of the prediction.
        loss: float64, negative log-likelihood of the label in nats; infinite where a classifier
            gives it no probability at all.
        brier: float64, sum of squared differences between probabilities and the one-hot label,
            from 0 to 2 (G. W. Brier, Monthly Weather Review 78 (1950)).

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
