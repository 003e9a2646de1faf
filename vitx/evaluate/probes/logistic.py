"""Logistic regression on frozen features, its strength chosen on samples that are held out.

Source: A. Radford et al., arXiv 2103.00020, appendix A.3: scikit-learn's L-BFGS with at most 1000
iterations; strengths two decades apart, then the interval around the best halved until steps are an
eighth of a decade. Features are taken as they are, as in openai/CLIP, `README.md`.

Shapes: N samples, D width, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitx.errors import DataError, UsageError
from vitx.evaluate.answers import check_labels
from vitx.evaluate.probes.inputs import check_features
from vitx.evaluate.probes.linear import LinearClassifier, hold_out
from vitx.runtime.seeds import derive

MAX_ITERATIONS = 1000
_FIRST = tuple(range(-48, 49, 16))  # eighths of a decade: 1e-6, 1e-4 ... 1e6
_STEPS = (8, 4, 2, 1)

Score = tuple[float, float]
"""Accuracy, and the negative loss that decides between equals: few held-out samples have many."""


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """A fitted probe.

    Attributes:
        classifier: fitted on all samples, in float64.
        strength: scikit-learn's C, the inverse of the weight of the L2 penalty.
        validation_top1: accuracy on the held-out samples in percent, by strength; empty where the
            strength was given.
        held_out: how many samples these were.
        iterations: of the last fit.
        converged: whether the last fit did, within `MAX_ITERATIONS`.
        unconverged: strengths of the sweep at which it did not.
    """

    classifier: LinearClassifier
    strength: float
    validation_top1: Mapping[float, float]
    held_out: int
    iterations: int
    converged: bool
    unconverged: tuple[float, ...]


def logistic(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    seed: int = 0,
    share: float = 0.1,
    strength: float | None = None,
    max_iterations: int = MAX_ITERATIONS,
) -> LogisticProbe:
    """Fit a logistic regression.

    Args:
        features: [N, D] of the training split; of float32 it is fitted in float32, as in CLIP.
        labels: [N] int64.
        num_classes: C; a class without a sample is never answered.
        seed: of the choice of held-out samples.
        share: of each class that is held out.
        strength: C; None chooses it.
        max_iterations: of a fit.

    Returns:
        The probe with the strength of the highest validation accuracy, of equals that of the lowest
        validation loss, fitted on all samples.

    Raises:
        UsageError: the share leaves nothing to fit or to validate on.
        DataError: there are fewer than two classes, or features are not finite.
    """
    check_features(features, "training features")
    check_labels(labels, num_classes)
    if len(labels.unique()) < 2:
        raise DataError("a linear probe needs samples of two classes; there is one")
    told: dict[int, Score] = {}
    failed: list[float] = []
    held = torch.zeros(len(labels), dtype=torch.bool)
    if strength is None:
        held = hold_out(labels, share=share, seed=derive("probe hold-out", seed))
        if not 0 < share < 1 or not held.any():
            raise UsageError(
                f"share={share} of {len(labels)} samples leaves none to validate on; "
                "expected between 0 and 1, or a strength"
            )

        def validate(exponent: int) -> Score:
            fit = _fit(features[~held], labels[~held], _strength(exponent), max_iterations)
            if not fit.converged:
                failed.append(_strength(exponent))
            answers = fit.classifier(num_classes).answers(features[held], labels[held])
            return answers.top(), -float(answers.loss.mean())

        strength = _strength(best_exponent(validate, told))
    fit = _fit(features, labels, strength, max_iterations)
    return LogisticProbe(
        classifier=fit.classifier(num_classes),
        strength=strength,
        validation_top1={_strength(each): told[each][0] for each in sorted(told)},
        held_out=int(held.sum()),
        iterations=fit.iterations,
        converged=fit.converged,
        unconverged=tuple(sorted(failed)),
    )


def best_exponent(validate: Callable[[int], Score], told: dict[int, Score]) -> int:
    """Find the exponent with the highest value, near the peak in steps of one.

    Args:
        validate: the value of an exponent, in eighths of a decade; each is asked for once.
        told: takes the values.

    Returns:
        The best; of equals the lowest.

    >>> best_exponent(lambda exponent: (0.0, -abs(exponent - 5)), {})
    5
    """

    def best() -> int:
        return max(sorted(told), key=lambda exponent: told[exponent])

    for exponent in _FIRST:
        told[exponent] = validate(exponent)
    for step in _STEPS:
        peak = best()
        for exponent in (peak - step, peak + step):
            if exponent not in told and _FIRST[0] <= exponent <= _FIRST[-1]:
                told[exponent] = validate(exponent)
    return best()


def _strength(exponent: int) -> float:
    return float(10.0 ** (exponent / 8))


@dataclass(frozen=True)
class _Fitted:
    """What scikit-learn came to, and whether it said that it arrived there."""

    model: Any
    converged: bool

    @property
    def iterations(self) -> int:
        return int(self.model.n_iter_.max())

    def classifier(self, num_classes: int) -> LinearClassifier:
        weight = torch.from_numpy(np.asarray(self.model.coef_, np.float64))
        bias = torch.from_numpy(np.asarray(self.model.intercept_, np.float64))
        if len(weight) == 1:  # of two classes the second's score, the first's being 0
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        known = torch.from_numpy(self.model.classes_)
        every = torch.zeros(num_classes, weight.shape[1], dtype=torch.float64)
        biases = torch.full((num_classes,), -torch.inf, dtype=torch.float64)
        every[known], biases[known] = weight, bias
        return LinearClassifier(weight=every, bias=biases)


def _fit(features: Tensor, labels: Tensor, strength: float, max_iterations: int) -> _Fitted:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=max_iterations)
    kind = torch.float64 if features.dtype is torch.float64 else torch.float32
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(features.to("cpu", kind).numpy(), labels.cpu().numpy())
    converged = not any(issubclass(each.category, ConvergenceWarning) for each in said)
    return _Fitted(model, converged)
