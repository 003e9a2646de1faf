"""What teachers say of a batch.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one teacher says of a batch.

    Attributes:
        logits: [B, C] float32, up to a constant for each picture.
        classes: [B] int64, the most probable class; what was stored of few classes in few digits
            knows it exactly.
    """

    logits: Tensor
    classes: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Answer:
        """Return the answer that [B, C] logits are."""
        logits = logits.float()
        return cls(logits=logits, classes=logits.argmax(1))

    def reversed(self) -> Answer:
        """Return the answer of the batch in reverse order."""
        return Answer(logits=self.logits.flip(0), classes=self.classes.flip(0))


class Lesson:
    """A mixture of answers: of several teachers, or of the two pictures that one was mixed of.

    Args:
        parts: the share of each answer, a number or [B, 1], and the answer.
    """

    def __init__(self, parts: Sequence[tuple[Tensor | float, Answer]]) -> None:
        self._parts = parts

    @classmethod
    def average(cls, lessons: Sequence[Lesson]) -> Lesson:
        """Return the mean of several lessons."""
        if len(lessons) == 1:
            return lessons[0]
        every = [part for lesson in lessons for part in lesson._parts]
        return cls([(share / len(lessons), answer) for share, answer in every])

    def log_probabilities(self, temperature: float = 1.0) -> Tensor:
        """Return [B, C] log-probabilities, the mixture of each answer at a temperature."""
        each = [(answer.logits / temperature).log_softmax(1) for _, answer in self._parts]
        if len(each) == 1:
            return each[0]
        first = each[0]
        weighed = [
            torch.as_tensor(share, dtype=first.dtype, device=first.device).log() + one
            for (share, _), one in zip(self._parts, each, strict=True)
        ]
        return torch.stack(weighed).logsumexp(0)

    @property
    def classes(self) -> Tensor:
        """[B] int64, the most probable class."""
        if len(self._parts) == 1:
            return self._parts[0][1].classes
        return self.log_probabilities().argmax(1)
