"""Tensors of which every rank holds a part, as whole ones: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vitx.runtime.world import World


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all its parts; all ranks ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_on_first(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Return whole tensors on rank 0 and none on the others; all ranks ask together.

    What was in parts is put together one by one and leaves the device at once: a GPU need not have
    room for all of it.
    """
    held = {}
    for name, tensor in tensors.items():
        together = whole(tensor)
        if world.leads:
            held[name] = together.cpu() if isinstance(tensor, DTensor) else together
        del together
    return held


def load_parts(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a model of which this rank may hold a part.

    Raises:
        RuntimeError: they are of another model.
    """
    like = model.state_dict()
    held = {name: part_of(each, like.get(name, each)) for name, each in tensors.items()}
    model.load_state_dict(held)


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Return of a whole tensor what this rank holds of `like`."""
    if not isinstance(like, DTensor):
        return tensor
    there = tensor.to(like.device_mesh.device_type)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)
