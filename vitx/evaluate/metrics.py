"""Scores of a batch of logits, in whole numbers where the metric is a count.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor


def in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Say for each sample whether its label is among the k highest scores.

    Among equal scores the lower class number comes first, as in argmax. A label whose score is
    NaN is never in, and a NaN elsewhere counts as higher.

    Args:
        logits: [B, C].
        labels: [B] int64.
        k: how many; with k >= C every finite score is in.

    Returns:
        [B] bool.

    >>> in_top_k(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([1]), 1)
    tensor([False])
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ahead = ~(logits <= own) | ((logits == own) & before)
    rank = ahead.sum(dim=1)
    return (rank < k) & ~own.squeeze(1).isnan()


def loss_sum(logits: Tensor, labels: Tensor) -> float:
    """Return the sum of the cross-entropy in nats of [B, C] logits, in float64."""
    return float(F.cross_entropy(logits.double(), labels, reduction="sum"))
