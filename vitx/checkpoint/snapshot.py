"""All that a run is at one step, in memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that a run is at one step.

    Attributes:
        step: optimizer steps done.
        tensors: named tensors of each file, such as `model` and `optimizer`.
        state: plain data: counters and the states of the callbacks.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(each.nbytes for named in self.tensors.values() for each in named.values())

    def copied(self, *, into: Snapshot | None = None) -> Snapshot:
        """Return a copy in host memory that no later step changes.

        Args:
            into: an earlier copy that nobody needs any more; its memory is used again where the
                shapes agree. New memory costs several times what the copying does.

        Returns:
            The copy; each tensor is contiguous and owns its bytes, as safetensors wants it.
        """
        spare = {} if into is None else into.tensors
        tensors = {
            file: {
                name: _held(tensor, spare.get(file, {}).get(name)) for name, tensor in named.items()
            }
            for file, named in self.tensors.items()
        }
        return Snapshot(step=self.step, tensors=tensors, state=copy.deepcopy(self.state))


def _held(tensor: Tensor, spare: Tensor | None) -> Tensor:
    if spare is None or spare.shape != tensor.shape or spare.dtype != tensor.dtype:
        spare = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    # Waits for the device: when this returns, the next step may change the original.
    return spare.copy_(tensor.detach())
