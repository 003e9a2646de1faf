"""Batch normalisation whose statistics are those of all ranks' pictures.

torch's own layer does it on GPUs only; the one here is for the CPU, where a run of several
processes has to come to what one process would.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitx.runtime.torchvision_ops import declare_missing_ops


def synchronise(model: nn.Module, device: torch.device) -> None:
    """Have the batch normalisation of a model take its statistics over all ranks, in place.

    Parameters, buffers and their names stay as they are.
    """
    if not any(isinstance(each, _BatchNorm) for each in model.modules()):
        return
    if device.type == "cuda":
        declare_missing_ops()
        from timm.layers import convert_sync_batchnorm

        convert_sync_batchnorm(model)  # knows timm's layers that also activate
        return
    for each in model.modules():
        if isinstance(each, _BatchNorm):
            each.__class__ = _synced_kind(type(each))


def normalise(x: Tensor, layer: _BatchNorm) -> Tensor:
    """Return `(x - mean) / sqrt(var + eps)`, scaled and shifted, as `layer` does in training.

    Ioffe and Szegedy, arXiv 1502.03167, with mean and variance over the batches of all ranks; the
    running variance is the unbiased one, as in torch.

    Args:
        x: [B, C, ...] on the CPU; B may differ between ranks.
        layer: its running statistics move.
    """
    dims = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    count = _over_ranks(wide.new_tensor(x.numel() / x.shape[1]))
    mean = _over_ranks(wide.sum(dims)) / count
    centred = wide - mean.view(shape)
    variance = _over_ranks(centred.square().sum(dims)) / count
    with torch.no_grad():
        _move(layer, mean, variance * count / (count - 1))
    scale = torch.rsqrt(variance + layer.eps)
    if layer.affine:
        scale = scale * layer.weight
    normalised: Tensor = centred * scale.view(shape)
    if layer.affine:
        normalised = normalised + layer.bias.view(shape)
    return normalised.to(x.dtype)


def _move(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return
    assert layer.num_batches_tracked is not None  # noqa: S101 (it has running statistics)
    layer.num_batches_tracked += 1
    momentum = layer.momentum
    if momentum is None:
        momentum = 1 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean, momentum)
    layer.running_var.lerp_(variance, momentum)


class _SumOverRanks(torch.autograd.Function):
    """A sum to which every rank's loss adds its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _over_ranks(x: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return total


class _Synced(nn.Module):
    """In front of a kind of batch normalisation: in training, what `normalise` says."""

    def forward(self, x: Tensor) -> Tensor:
        layer = cast(_BatchNorm, self)
        if not layer.training:
            return cast(Tensor, super().forward(x))
        x = normalise(x, layer)
        # timm's BatchNormAct2d also drops and activates.
        for name in ("drop", "act"):
            if (then := getattr(self, name, None)) is not None:
                x = then(x)
        return x


def _synced_kind(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Synced{kind.__name__}", (_Synced, kind), {})
