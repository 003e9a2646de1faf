"""A linear classifier on frozen features: what it is, and what it says.

Shapes: Q samples, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitx.evaluate.answers import Answers
from vitx.evaluate.probes.inputs import ROWS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class LinearClassifier:
    """Scores x W^T + b.

    Attributes:
        weight: [C, D], W.
        bias: [C], b; -inf for a class that is never answered.
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return [Q, C] scores of features [Q, D], in the type of the weights."""
        return features.to(self.weight) @ self.weight.T + self.bias

    def answers(self, features: Tensor, labels: Tensor) -> Answers:
        """Return the answers about features [Q, D] of labels [Q], with softmax probabilities."""
        return in_parts(features, labels, lambda x, y: Answers.of_logits(self.scores(x), y))


def in_parts(
    features: Tensor, labels: Tensor, answer: Callable[[Tensor, Tensor], Answers]
) -> Answers:
    """Return the answers about all features, asked for so many at a time that memory suffices."""
    starts = range(0, max(1, len(features)), ROWS_AT_ONCE // 4)
    parts = [slice(start, start + ROWS_AT_ONCE // 4) for start in starts]
    return Answers.joined([answer(features[part], labels[part]) for part in parts])


def hold_out(labels: Tensor, *, share: float, seed: int) -> Tensor:
    """Choose samples to validate on, of each class alike.

    Args:
        labels: [N] int64.
        share: of each class, rounded; one sample of it always stays.
        seed: of the choice, from `vitx.runtime.seeds.derive` or the like.

    Returns:
        [N] bool.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for own in labels.cpu().unique():
        rows = (labels.cpu() == own).nonzero()[:, 0]
        count = min(len(rows) - 1, round(share * len(rows)))
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    return chosen
