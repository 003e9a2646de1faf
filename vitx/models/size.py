"""How large a model is: parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitx.config.schema import ModelConfig
from vitx.models.build import Fit, build_model, count_parameters

COUNTER = "fvcore's rules"
"""What counts: matrix products, convolutions, attention and norms, as in timm's tables.

Of a norm fvcore (nn/jit_handles.py) counts five for each element of a layer or group norm, and of a
batch norm two in evaluation, four where weights are standardised by it. Activations, additions and
interpolation are not counted. torch's own counter leaves the norms out.
"""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Size of a model for one picture.

    Attributes:
        parameters: trainable ones.
        macs: multiply-accumulates of a forward pass by `COUNTER`.
    """

    parameters: int
    macs: int


def measure_size(config: ModelConfig, fit: Fit) -> ModelSize:
    """Build a model without memory and return its size for such pictures."""
    with torch.device("meta"):
        model = build_model(config, fit).eval()
        picture = torch.zeros(1, fit.channels, fit.image_px, fit.image_px)
    # The counter fails on CaiT where gradients are off; without memory they cost nothing.
    with FlopCounterMode(display=False, custom_mapping=_norms()) as counter:
        model(picture)
    return ModelSize(parameters=count_parameters(model), macs=counter.get_total_flops() // 2)


def _norms() -> dict[Any, Callable[..., int]]:
    aten = torch.ops.aten
    return {
        aten.native_layer_norm: _for_each_element(5),
        aten.native_group_norm: _for_each_element(5),
        aten._native_batch_norm_legit_no_training: _for_each_element(2),
        aten._native_batch_norm_legit: _for_each_element(4),
        aten.native_batch_norm: _for_each_element(2),
    }


def _for_each_element(macs: int) -> Callable[..., int]:
    # torch's counter asks for operations: two make a multiply-accumulate.
    return lambda shape, *_, **__: 2 * macs * math.prod(shape)
