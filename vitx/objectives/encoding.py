"""What is stored of a teacher's answer.

Shapes: P places, K stored classes, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitx.config.schema import Precision
from vitx.errors import UsageError
from vitx.objectives.lesson import Answer

_LEAST_LOG = -80.0  # of the classes that are not stored; finite, so that 0 times it is 0
_TYPES = {
    Precision.fp32: torch.float32,
    Precision.bf16: torch.bfloat16,
    Precision.fp16: torch.float16,
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What is stored of an answer.

    All classes are stored as logits, exact in fp32. Of the `top_k` most probable ones the
    log-probabilities are, and the rest of the probability is spread evenly over the other classes
    (as in FKD, Z. Shen and E. Xing, arXiv 2112.01528). The most probable class is exact in either.

    Attributes:
        classes: C.
        top_k: K, or None for all.
        precision: of the stored numbers.
    """

    classes: int
    top_k: int | None
    precision: Precision

    @property
    def kept(self) -> int:
        """K."""
        return self.classes if self.top_k is None else min(self.top_k, self.classes)

    @property
    def full(self) -> bool:
        """Whether all classes are stored."""
        return self.kept == self.classes

    @property
    def columns(self) -> dict[str, tuple[int, torch.dtype]]:
        """Width and type of each tensor of a shard."""
        number = torch.int16 if self.classes <= torch.iinfo(torch.int16).max else torch.int32
        named = 1 if self.full else self.kept
        return {"classes": (named, number), "values": (self.kept, _TYPES[self.precision])}

    @property
    def place_bytes(self) -> int:
        """Bytes of one answer, the mark that it is there included."""
        return 1 + sum(width * kind.itemsize for width, kind in self.columns.values())

    def encode(self, answer: Answer) -> dict[str, Tensor]:
        """Return the [P, ...] tensors that are stored of an answer, on the CPU."""
        if self.full:
            values = answer.logits
            if self.precision is not Precision.fp32:  # logits may be beyond fp16
                values = values.log_softmax(1)
            found = {"classes": answer.classes[:, None], "values": values}
        else:
            named, probable = answer.classes[:, None], answer.logits.log_softmax(1)
            # Of equals topk takes any; the class that was named has to come first.
            first = probable.scatter(1, named, math.inf)
            classes = first.topk(self.kept, dim=1).indices
            found = {"classes": classes, "values": probable.gather(1, classes)}
        return {
            name: tensor.to(device="cpu", dtype=self.columns[name][1])
            for name, tensor in found.items()
        }

    def decode(self, stored: Mapping[str, Tensor], device: torch.device) -> Answer:
        """Return the answer that was stored."""
        classes = stored["classes"].to(device, torch.int64)
        values = stored["values"].to(device, torch.float32)
        if self.full:
            return Answer(logits=values, classes=classes[:, 0])
        others = self.classes - classes.shape[1]
        rest = (1 - values.double().exp().sum(1, keepdim=True)).clamp(min=0) / others
        spread = rest.log().clamp(min=_LEAST_LOG).float()
        logits = spread.expand(-1, self.classes).scatter(1, classes, values)
        return Answer(logits=logits, classes=classes[:, 0])


def refuse_encoding(encoding: Encoding, *, hard: bool) -> None:
    """Refuse what can't be stored.

    Raises:
        UsageError: `top_k` is no number of classes, or the precision is none to store in.
    """
    if encoding.top_k is not None and not 1 <= encoding.top_k <= encoding.classes:
        raise UsageError(
            f"teacher.top_k={encoding.top_k}: expected 1 to {encoding.classes}, the classes"
        )
    if not hard and encoding.top_k == 1:
        raise UsageError(
            "teacher.top_k=1 holds no more than the class; distillation=soft needs 2 or more"
        )
