"""The two answers of a model with a distillation token, and the ways to make one of them.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitx.config.schema import Head

_FLAG = "distilled_training"  # timm's; only where it is set are the two answers given apart


def has_two(model: nn.Module) -> bool:
    """Return whether a model has a head for labels and one for what a teacher says."""
    return any(getattr(each, "head_dist", None) is not None for each in model.modules())


@contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode give `(class head, distillation head)`, [B, C] each.

    timm gives both in training mode alone. So the module that fuses them is told that it trains,
    and nothing below it: dropout and BatchNorm stay as they are.
    """
    fusing = [each for each in model.modules() if hasattr(each, _FLAG)]
    before = [(getattr(each, _FLAG), each.training) for each in fusing]
    try:
        for each in fusing:
            setattr(each, _FLAG, True)
            each.training = True
        yield
    finally:
        for each, (flag, training) in zip(fusing, before, strict=True):
            setattr(each, _FLAG, flag)
            each.training = training


def answers(class_head: Tensor, distill_head: Tensor) -> Mapping[Head, Tensor]:
    """Return each head's [B, C] logits and both fusions of the two.

    The paper adds the softmax outputs (arXiv 2012.12877, section 5.2); its code and timm average
    the logits.
    """
    log_both = torch.stack((class_head.log_softmax(1), distill_head.log_softmax(1)))
    return {
        Head.mean_logits: (class_head + distill_head) / 2,
        Head.mean_softmax: log_both.logsumexp(0) - math.log(2),
        Head.class_head: class_head,
        Head.distill_head: distill_head,
    }
