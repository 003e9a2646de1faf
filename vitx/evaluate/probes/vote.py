"""Weighted votes of the nearest neighbours, for several numbers of them from one search.

Source: Z. Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
arXiv 1805.01978, section 3.4, as in facebookresearch/dino at 7c446df, `eval_knn.py`. Classes that
get the same weight, above all those that get none, are in the order of their numbers here; there
in whatever order a sort leaves them.

Shapes: Q queries, N rows of the bank, K neighbours, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vitx.errors import UsageError
from vitx.evaluate.probes.answers import Answers, check_labels
from vitx.evaluate.probes.nearest import Neighbours

TEMPERATURE = 0.07
_VOTES_BYTES = 128 * 2**20


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
        UsageError: nobody votes, or the temperature is not positive.
    """
    if k < 1 or not temperature > 0:
        raise UsageError(f"k={k}, temperature={temperature}: expected both to be more than 0")
    similarity = neighbours.similarity[:, :k]
    # Relative to the nearest: the shares are the same, and exp stays finite.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    classes = bank_labels.cpu()[neighbours.rows[:, :k]]
    votes = torch.zeros(len(weights), num_classes, dtype=torch.float64)
    votes.scatter_add_(1, classes, weights)
    return votes / votes.sum(1, keepdim=True)


def classify(
    neighbours: Neighbours,
    bank_labels: Tensor,
    labels: Tensor,
    *,
    ks: Iterable[int],
    num_classes: int,
    temperature: float = TEMPERATURE,
) -> dict[int, Answers]:
    """Say what the neighbours of each query say of it, for several k.

    Args:
        neighbours: of Q queries, as many as the largest k.
        bank_labels: [N] int64, of the rows of the bank.
        labels: [Q] int64, of the queries.
        ks: how many vote.
        num_classes: C.
        temperature: see `vote`.

    Returns:
        Answers by k; what has no votes has probability 0, so that its loss is infinite.

    Raises:
        DataError: a label is not among the classes.
        UsageError: nobody votes, or the temperature is not positive.
    """
    check_labels(bank_labels, num_classes)
    at_once = max(1, _VOTES_BYTES // (8 * num_classes))
    found: dict[int, Answers] = {}
    for k in ks:
        parts = []
        for start in range(0, len(labels), at_once):
            some = slice(start, start + at_once)
            part = Neighbours(
                rows=neighbours.rows[some], similarity=neighbours.similarity[some], uncertain=0
            )
            shares = vote(part, bank_labels, k=k, num_classes=num_classes, temperature=temperature)
            parts.append(Answers.of(shares, labels[some], log_probabilities=shares.log()))
        found[k] = Answers.joined(parts)
    return found
