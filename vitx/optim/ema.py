"""The exponential moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from vitx.config.schema import EmaConfig
from vitx.runtime.torchvision_ops import declare_missing_ops

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


def build_ema(model: nn.Module, config: EmaConfig, *, in_parts: bool = False) -> ModelEmaV3 | None:
    """Return timm's average of a model's parameters and buffers, or None where none is wanted.

    `ema.update(model, step=t)` does `ema <- d ema + (1 - d) model`; d is a function of t alone,
    so nothing but the averaged weights has to be saved. Step 1 copies the model. With `in_parts`
    ranks will hold parts of both.
    """
    if config.decay is None:
        return None
    declare_missing_ops()
    from timm.utils import ModelEmaV3

    # One by one where some tensors are in parts: torch joins no operation over both kinds.
    ema = ModelEmaV3(model, decay=config.decay, use_warmup=config.warmup, foreach=not in_parts)
    ema.requires_grad_(False)
    return ema
