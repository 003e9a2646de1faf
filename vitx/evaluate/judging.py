"""What is said of each sample, from its logits and what counts as right.

Shapes: N samples, B batch, C classes of the model, K of them that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitx.evaluate.answers import Answers, ranks


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts as right.

    Attributes:
        among: [K] ascending numbers of the classes whose scores count; None is all of them.
        accepted: for each row of the split the class numbers that are right, one at least; None
            where its label alone is.
    """

    among: tuple[int, ...] | None = None
    accepted: Sequence[Sequence[int]] | None = None


PLAIN = Rules()


@dataclass(frozen=True, kw_only=True)
class PerSample:
    """What was said of each sample: [N] arrays in the order of the split.

    Attributes:
        index: row in the split.
        label: class number; of several that are right the original one.
        prediction: class with the highest score; of equals the first.
        correct: whether that is right.
        rank: place of the right class among the scores, 0 the highest; of several the best.
        confidence: probability of the prediction.
        loss: negative log-likelihood of the label, in nats.
        brier: sum over the classes of (probability - 1 at the label, 0 elsewhere) squared.
    """

    index: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]
    rank: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float64]
    brier: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)

    def as_plain(self) -> dict[str, list[Any]]:
        """Return the columns as lists, without loss."""
        return {name: getattr(self, name).tolist() for name in _TYPES}

    @classmethod
    def joined(cls, parts: Iterable[Mapping[str, Sequence[Any]]]) -> PerSample:
        """Return the samples of several parts, as plain data, in the order of their rows."""
        columns = {name: list[Any]() for name in _TYPES}
        for part in parts:
            for name, values in part.items():
                columns[name].extend(values)
        order = np.argsort(np.array(columns["index"], np.int64), kind="stable")
        return cls(
            **{name: np.array(values, _TYPES[name])[order] for name, values in columns.items()}
        )

    @classmethod
    def of_answers(cls, rows: Tensor, answers: Answers) -> PerSample:
        """Return what a classifier said of [N] rows, in the order given."""
        said = {name: getattr(answers, name).numpy() for name in _ANSWERED}
        return cls(index=rows.numpy(), correct=said["rank"] == 0, **said)

    @classmethod
    def nothing(cls) -> PerSample:
        """Return no samples."""
        return cls.joined(())


_ANSWERED = ("label", "prediction", "rank", "confidence", "loss", "brier")
_TYPES: dict[str, type[np.generic]] = {
    "index": np.int64,
    "label": np.int64,
    "prediction": np.int64,
    "correct": np.bool_,
    "rank": np.int32,
    "confidence": np.float32,
    "loss": np.float64,
    "brier": np.float64,
}


def judge(logits: Tensor, labels: Tensor, rows: Tensor, rules: Rules = PLAIN) -> PerSample:
    """Judge a batch.

    Args:
        logits: [B, C] scores, on the CPU.
        labels: [B] int64 class numbers, each among those that count.
        rows: [B] int64 rows of the split.
        rules: what counts as right.

    Returns:
        What is said of each, in the order given. Probabilities are taken in float64 over the
        classes that count.
    """
    scores, own = logits.double(), labels
    if rules.among is not None:
        among = torch.tensor(rules.among)
        scores, own = scores[:, among], torch.searchsorted(among, labels)
    said = replace(Answers.of_logits(scores, own), label=labels)
    if rules.among is not None:
        said = replace(said, prediction=among[said.prediction])
    if rules.accepted is not None:
        said = replace(said, rank=_best_rank(scores, rows, rules.accepted))
    return PerSample.of_answers(rows, said)


def _best_rank(scores: Tensor, rows: Tensor, accepted: Sequence[Sequence[int]]) -> Tensor:
    """Return [B] places of the best of the accepted classes."""
    best = []
    for one, row in zip(scores, rows.tolist(), strict=True):
        right = torch.tensor(accepted[row])
        best.append(ranks(one.expand(len(right), -1), right).min())
    return torch.stack(best).int()
