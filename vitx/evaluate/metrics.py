"""Scores of a batch of logits, each sample by itself: sums are taken later, and exactly.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

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


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [B] cross-entropies in nats of [B, C] logits, in float64.

    >>> losses(torch.zeros(1, 4), torch.tensor([2])).exp().round(decimals=12)
    tensor([4.], dtype=torch.float64)
    """
    return F.cross_entropy(logits.double(), labels, reduction="none")


def brier_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [B] Brier scores of [B, C] logits, from 0 to 2, in float64.

    The sum over all classes of the squared difference between probability and outcome, as
    G. W. Brier, Monthly Weather Review 78 (1950), defined it for several classes.

    >>> brier_scores(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.5000], dtype=torch.float64)
    """
    away = logits.double().softmax(1)
    away.scatter_add_(1, labels[:, None], torch.full_like(away[:, :1], -1.0))
    return away.square().sum(1)
