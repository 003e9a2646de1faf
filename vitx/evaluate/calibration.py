"""Whether a model is right as often as it says: calibration errors, and the temperature.

Shapes: N samples, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitx.records import NORMAL_95

Floats = npt.NDArray[np.floating]

BINS = 15
"""Bins of C. Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 5."""

_DRAWS, _SEED = 4000, 0
_FOLDS = 2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration errors of N samples, as shares from 0 to 1.

    Attributes:
        ece: expected calibration error: over equally wide bins of confidence, the mean of
            |confidence - accuracy| weighted by the samples of a bin.
        ece_interval: at least 95 %. ECE is biased upwards, so that no bootstrap of it holds what
            it promises near 0; this is the distance that binning noise exceeds once in 20 times,
            to both sides, by the triangle inequality.
        ece_if_calibrated: what the ECE of a model with these confidences that is right exactly
            as often exceeds once in 20 times: below it nothing is shown.
        signed_ece: mean confidence - accuracy: positive says too much, negative too little.
        signed_ece_interval: 95 %, of the normal approximation.
        bins: how many.
        count: N.
    """

    ece: float
    ece_interval: tuple[float, float]
    ece_if_calibrated: float
    signed_ece: float
    signed_ece_interval: tuple[float, float]
    bins: int
    count: int


def calibration(
    confidence: Floats, correct: npt.NDArray[np.bool_], *, bins: int = BINS
) -> Calibration:
    """Return the calibration errors of predictions.

    Args:
        confidence: [N] probabilities of the predictions; N is one at least.
        correct: [N] whether they are right.
        bins: of equal width over (0, 1], each closed above.
    """
    sure = confidence.astype(np.float64)
    over, count = sure - correct, len(sure)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, over, bins) / count
    ece = float(np.abs(gaps).sum())
    # Of a bin's share in the sum: the variance of the mean of `over` within it, 0 outside.
    noise = np.bincount(place, over**2, bins) / count - gaps**2
    reach = _exceeded_once_in_20(noise / count)
    half = NORMAL_95 * float(over.std()) / math.sqrt(count)
    signed = float(over.mean())
    return Calibration(
        ece=ece,
        ece_interval=(max(0.0, ece - reach), min(1.0, ece + reach)),
        ece_if_calibrated=_exceeded_once_in_20(
            np.bincount(place, sure * (1 - sure), bins) / count**2
        ),
        signed_ece=signed,
        signed_ece_interval=(signed - half, signed + half),
        bins=bins,
        count=count,
    )


def _exceeded_once_in_20(variances: Floats) -> float:
    """Return the 95 % quantile of the sum of the sizes of independent normal numbers."""
    draw = np.random.default_rng(_SEED).normal(size=(_DRAWS, len(variances)))
    sums = np.abs(draw * np.sqrt(np.maximum(variances, 0))).sum(1)
    return float(np.quantile(sums, 0.95))


@dataclass(frozen=True, kw_only=True)
class Tempered:
    """What scaling the logits by a temperature comes to.

    Attributes:
        temperatures: of each fold, fitted on the samples of the other one.
        loss: mean negative log-likelihood in nats, of all samples.
        calibration: likewise.
    """

    temperatures: tuple[float, ...]
    loss: float
    calibration: Calibration


def tempered(logits: Floats, labels: npt.NDArray[np.int64], *, bins: int = BINS) -> Tempered:
    """Scale by temperatures that were fitted on samples other than those that are reported.

    Samples of odd and even places are two folds; each is reported by the temperature of least
    negative log-likelihood on the other (Guo et al., section 4.2).

    Args:
        logits: [N, C], N two at least.
        labels: [N].
        bins: as of `calibration`.

    Returns:
        What comes of it.
    """
    fold = np.arange(len(labels)) % _FOLDS
    scaled, temperatures = logits.astype(np.float64), []
    for number in range(_FOLDS):
        fitted = fit_temperature(logits[fold != number], labels[fold != number])
        scaled[fold == number] /= fitted
        temperatures.append(fitted)
    highest = scaled.max(1)
    normaliser = highest + np.log(np.exp(scaled - highest[:, None]).sum(1))
    own = scaled[np.arange(len(labels)), labels]
    return Tempered(
        temperatures=tuple(temperatures),
        loss=math.fsum(normaliser - own) / len(labels),
        calibration=calibration(
            np.exp(highest - normaliser), scaled.argmax(1) == labels, bins=bins
        ),
    )


def fit_temperature(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature of least negative log-likelihood, between 1/100 and 100.

    In the inverse temperature the likelihood is concave, so there is one.
    """
    from scipy.optimize import minimize_scalar

    scores = logits.astype(np.float64)
    own = scores[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        highest = scaled.max(1)
        normaliser = highest + np.log(np.exp(scaled - highest[:, None]).sum(1))
        return float((normaliser - own / math.exp(log_temperature)).mean())

    bound = math.log(100)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))
