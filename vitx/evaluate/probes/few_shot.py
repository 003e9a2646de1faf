"""Few-shot ridge regression on frozen features, as in big_vision.

Source: google-research/big_vision at 0127fb6, `evaluators/fewshot_lsr.py` and
`configs/common_fewshot.py`. The samples drawn are the same there for a split in the same order. It
computes in float32 and decomposes; here float64 solves, of N samples and D features in the smaller.

Shapes: N samples, Q samples to test on, D width, C classes, S samples that are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitx.errors import UsageError
from vitx.evaluate.answers import Answers, check_labels
from vitx.evaluate.probes.inputs import check_features
from vitx.evaluate.probes.linear import LinearClassifier, in_parts

SHOTS = (1, 5, 10, 25)
SEEDS = (0, 1, 2)
STRENGTH = 2.0**10
_BIAS_INPUT = 100.0  # large, so that its weight is hardly held back
_LEAST_STD = 1e-5  # added to each


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """What so many samples of each class were enough for.

    Attributes:
        shots: samples of a class.
        answers: about the test samples, by seed.
        samples: how many were drawn of all classes; fewer than C times `shots` where a class has
            not so many.
    """

    shots: int
    answers: tuple[Answers, ...]
    samples: int

    @property
    def top1_by_seed(self) -> tuple[float, ...]:
        """Top-1 accuracies in percent."""
        return tuple(each.top() for each in self.answers)

    @property
    def top1(self) -> float:
        """Their mean, in percent."""
        return math.fsum(self.top1_by_seed) / len(self.answers)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over seeds, in percent; NaN for one seed."""
        count = len(self.answers)
        if count < 2:
            return math.nan
        squares = math.fsum((each - self.top1) ** 2 for each in self.top1_by_seed)
        return math.sqrt(squares / (count - 1) / count)


def few_shot(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
    strength: float = STRENGTH,
) -> dict[int, FewShot]:
    """Fit and test with few samples of each class.

    Args:
        features: [N, D] of the training split.
        labels: [N] int64.
        test_features: [Q, D].
        test_labels: [Q] int64.
        num_classes: C.
        shots: samples of a class; more of them begin with the fewer.
        seeds: of the draws.
        strength: weight of the L2 penalty.

    Returns:
        What came out, by shots.

    Raises:
        UsageError: there is no shot or no seed, or the strength is not positive.
        DataError: features are not finite, or labels are no classes.
    """
    if not seeds or not shots or min(shots) < 1 or not strength > 0:
        raise UsageError(
            f"shots={list(shots)}, seeds={list(seeds)}, strength={strength}: expected some shots "
            "and seeds, and more than 0 of each"
        )
    check_features(features, "training features")
    check_features(test_features, "test features")
    check_labels(labels, num_classes)
    found = {}
    for count in shots:
        drawn = [draw(labels, shots=count, num_classes=num_classes, seed=seed) for seed in seeds]
        answers = []
        for rows in drawn:
            chosen = rows.to(features.device)
            classifier = ridge(
                features[chosen], labels[rows], num_classes=num_classes, strength=strength
            )
            answers.append(
                in_parts(
                    test_features,
                    test_labels,
                    lambda x, y, fitted=classifier: Answers.of(fitted.scores(x), y),  # type: ignore[misc]
                )
            )
        found[count] = FewShot(shots=count, answers=tuple(answers), samples=len(drawn[0]))
    return found


def draw(labels: Tensor, *, shots: int, num_classes: int, seed: int) -> Tensor:
    """Choose samples: the first `shots` of each class, in an order that the seed makes.

    Args:
        labels: [N] int64.
        shots: of each class; where there are fewer, all.
        num_classes: C.
        seed: of the order.

    Returns:
        [S] int64 rows, class by class.
    """
    generator, known = np.random.default_rng(seed), labels.cpu().numpy()
    rows = [generator.permutation(np.where(known == own)[0])[:shots] for own in range(num_classes)]
    return torch.from_numpy(np.concatenate(rows))


def ridge(
    features: Tensor, labels: Tensor, *, num_classes: int, strength: float = STRENGTH
) -> LinearClassifier:
    """Fit least squares with an L2 penalty, of targets +1 for the class and -1 for the others.

    Features get mean 0 and deviation 1, and a constant input in place of a bias.

    Args:
        features: [S, D].
        labels: [S] int64.
        num_classes: C.
        strength: weight of the penalty.

    Returns:
        The classifier of features as they were given, in float64.
    """
    wide = features.double()
    mean, std = wide.mean(0), wide.std(0, correction=0) + _LEAST_STD
    x = torch.cat([(wide - mean) / std, wide.new_full((len(wide), 1), _BIAS_INPUT)], 1)
    y = wide.new_full((len(wide), num_classes), -1.0)
    y[torch.arange(len(y)), labels.to(y.device)] = 1
    if len(x) >= x.shape[1]:
        weight = _solve(x.T @ x, x.T @ y, strength)
    else:
        weight = x.T @ _solve(x @ x.T, y, strength)
    own, constant = weight[:-1].T / std, _BIAS_INPUT * weight[-1]
    return LinearClassifier(weight=own, bias=constant - own @ mean)


def _solve(gram: Tensor, right: Tensor, strength: float) -> Tensor:
    gram.diagonal().add_(strength)
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))
