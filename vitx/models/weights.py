"""Weights of a checkpoint: names, shapes and types are checked before anything is read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vitx.errors import StorageError

_SHOWN = 3
# Of safetensors' types; complex numbers and packed floats are nowhere.
_KINDS = {
    **dict.fromkeys(("F64", "F32", "F16", "BF16"), "real numbers"),
    **dict.fromkeys(("I64", "I32", "I16", "I8", "U8"), "whole numbers"),
    "BOOL": "truth values",
}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load parameters and buffers into a model; names, shapes and types have to agree.

    Args:
        model: receives the values, in place.
        path: a `.safetensors` file.

    Raises:
        StorageError: the file can't be read or is for another model.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: tuple(part.get_shape()) for name, part in parts.items()}
            if problem := _mismatch(model, wanted, found):
                raise StorageError(f"{path}: {problem}")
            for name, tensor in model.state_dict().items():
                kind = parts[name].get_dtype()
                if _KINDS.get(kind) != kind_of(tensor):
                    raise StorageError(f"{path}: {name} is {kind}, expected {kind_of(tensor)}")
            with torch.no_grad():
                for name, tensor in model.state_dict().items():
                    tensor.copy_(file.get_tensor(name))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} can't be read as safetensors: {error}") from error


def kind_of(tensor: Tensor) -> str:
    """Return what the values of a tensor are; precision is another matter and may differ."""
    if tensor.is_floating_point():
        return "real numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "truth values" if tensor.dtype is torch.bool else "whole numbers"


def _mismatch(
    model: nn.Module, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> str:
    head = getattr(model, "pretrained_cfg", {}).get("classifier")
    for name in (head,) if isinstance(head, str) else tuple(head or ()):
        bias = f"{name}.bias"
        if bias in wanted and found.get(bias) and found[bias] != wanted[bias]:
            return f"its head has {found[bias][0]} classes, the model has {wanted[bias][0]}"
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(found[name])}, expected {list(wanted[name])}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    kinds = (("missing", missing), ("left over", extra), ("of other shape", shapes))
    parts = [f"{len(names)} tensors {what} ({_first(names)})" for what, names in kinds if names]
    return "weights of another model: " + "; ".join(parts) if parts else ""


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
