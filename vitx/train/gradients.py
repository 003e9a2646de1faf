"""How the gradients of a global batch come of the forward passes of its ranks."""

from __future__ import annotations

import contextlib
import warnings
from contextlib import AbstractContextManager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitx.runtime.world import World


class Gradients(Protocol):
    """What a trainer asks of the processes that share a batch.

    Attributes:
        forward: what the objective calls.
        divisor: the loss of each pass is divided by it.
    """

    forward: nn.Module
    divisor: int

    @property
    def spent_s(self) -> float:
        """Seconds so far of what an ordinary run does not do."""

    def of_pass(self, *, last: bool) -> AbstractContextManager[None]:
        """Surround forward and backward of a pass; `last` of this rank in the step."""

    def of_batch(self) -> None:
        """Make the gradients those of the mean loss of the batch, the same on all ranks."""


class Accumulated:
    """Of one process: backward adds up."""

    spent_s = 0.0

    def __init__(self, forward: nn.Module, *, passes: int) -> None:
        self.forward, self.divisor = forward, passes

    def of_pass(self, *, last: bool) -> AbstractContextManager[None]:
        """Do nothing more."""
        return contextlib.nullcontext()

    def of_batch(self) -> None:
        """Do nothing: they are."""


class Averaged:
    """Of several processes: torch averages while the last backward of each goes on.

    Args:
        forward: the model, on its device; its values are the same on all ranks.
        helper: parameters that are used beside the model's forward pass.
        passes: of this rank in a step.
        world: the ranks.
    """

    spent_s = 0.0

    def __init__(
        self, forward: nn.Module, helper: nn.Module | None, *, passes: int, world: World
    ) -> None:
        self.divisor, self._ranks = passes, world.size
        device = next(forward.parameters()).device
        with warnings.catch_warnings():
            # Its new name is younger than the oldest torch that will do.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self._ddp = DistributedDataParallel(
                forward,
                device_ids=[device] if device.type == "cuda" else None,
                # Batch statistics are the same on all ranks already.
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                # Also finds what the loss does not use; an accumulated step has two graphs.
                static_graph=passes == 1,
            )
        # Of depthwise convolutions, in the middle of backward; nothing that anybody could change.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
        self.forward: nn.Module = self._ddp
        self._beside = [] if helper is None else list(helper.parameters())

    def of_pass(self, *, last: bool) -> AbstractContextManager[None]:
        """Let torch exchange gradients in the last backward only."""
        return contextlib.nullcontext() if last else self._ddp.no_sync()

    def of_batch(self) -> None:
        """Average what lies beside the model."""
        gradients = [each.grad for each in self._beside if each.grad is not None]
        if gradients:
            flat = torch.cat([each.reshape(-1) for each in gradients])
            dist.all_reduce(flat)
            put_back(flat / self._ranks, gradients)


def put_back(flat: Tensor, tensors: list[Tensor]) -> None:
    """Give tensors the values of their concatenation, in place."""
    parts = flat.split([each.numel() for each in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
