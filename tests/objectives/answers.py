"""Answers of a teacher that nobody trained."""

from __future__ import annotations

import torch

from vitx.config.schema import Precision
from vitx.objectives.encoding import Encoding
from vitx.objectives.lesson import Answer

C = 11


def draw(count: int, *, seed: int = 0, classes: int = C) -> Answer:
    generator = torch.Generator().manual_seed(seed)
    return Answer.of(3 * torch.randn(count, classes, generator=generator))


def encoding(top_k: int | None = None, precision: Precision = Precision.fp32) -> Encoding:
    return Encoding(classes=C, top_k=top_k, precision=precision)
