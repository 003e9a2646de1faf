"""Weighted votes of the nearest neighbours.

Source: Z. Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
arXiv 1805.01978, section 3.4, as in facebookresearch/dino at 7c446df, `eval_knn.py`. Classes that
get the same weight, above all those that get none, are in the order of their numbers here; there
in whatever order a sort leaves them.

Shapes: Q queries, N rows of the bank, K neighbours, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitx.errors import UsageError
from vitx.evaluate.answers import check_labels
from vitx.evaluate.probes.nearest import Neighbours

TEMPERATURE = 0.07


def vote(
    neighbours: Neighbours,
    bank_labels: Tensor,
    *,
    k: int,
    num_classes: int,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Return the share of each class in the votes of k neighbours.

    A neighbour of cosine s votes for its class with weight exp(s / temperature).

    Args:
        neighbours: of Q queries; all of them vote where there are fewer than k.
        bank_labels: [N] int64, of the rows of the bank.
        k: how many vote.
        num_classes: C.
        temperature: the lower, the more the nearest decide.

    Returns:
        [Q, C] float64; each row adds up to 1.

    Raises:
        DataError: a label of the bank is not among the classes.
        UsageError: nobody votes, or the temperature is not positive.
    """
    check_labels(bank_labels, num_classes)
    if k < 1 or not temperature > 0:
        raise UsageError(f"k={k}, temperature={temperature}: expected both to be more than 0")
    similarity = neighbours.similarity[:, :k]
    # Relative to the nearest: the shares are the same, and exp stays finite.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    classes = bank_labels.cpu()[neighbours.rows[:, :k]]
    votes = torch.zeros(len(weights), num_classes, dtype=torch.float64)
    votes.scatter_add_(1, classes, weights)
    return votes / votes.sum(1, keepdim=True)
