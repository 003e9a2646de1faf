"""Training of a model of which every rank holds a part (FSDP2), for one that fits nowhere whole.

Zhao et al., arXiv 2304.11277; torch's `fully_shard`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from vitx.runtime.world import World


def shard(model: nn.Module, device: torch.device, world: World) -> None:
    """Leave of each parameter a part on each rank, in place; those of a block come together."""
    mesh = init_device_mesh(device.type, (world.size,))
    for block in repeated_blocks(model):
        fully_shard(block, mesh=mesh)
    # What is outside of the blocks too: a checkpoint finds parts and no whole ones between.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def repeated_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the outermost rows of modules of one kind: a transformer's blocks."""
    for child in model.children():
        row = list(child.children())
        is_row = isinstance(child, (nn.Sequential, nn.ModuleList)) and len(row) > 1
        trained = next(child.parameters(), None) is not None
        if is_row and trained and len({type(each) for each in row}) == 1:
            yield from row
        else:
            yield from repeated_blocks(child)


class Sharded:
    """Gradients that come together, averaged, as parts.

    Args:
        forward: the model, sharded.
        passes: of this rank in a step.
    """

    spent_s = 0.0

    def __init__(self, forward: nn.Module, *, passes: int) -> None:
        assert isinstance(forward, FSDPModule)  # noqa: S101 (as `shard` made it)
        self.forward: nn.Module = forward
        self.divisor = passes
        self._sharded = forward

    def of_pass(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients in the last backward only."""
        self._sharded.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def of_batch(self) -> None:
        """Do nothing: they are."""
