"""Choosing the device and the arithmetic."""

from __future__ import annotations

import torch

from vitx.config.schema import Precision
from vitx.errors import UsageError

_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU where there is one.

    Raises:
        UsageError: torch has no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"runtime.device={name}: torch has no such device here ({reason})"
        ) from error
    if device.type == "meta":
        raise UsageError(
            "runtime.device=meta: expected a device that computes, such as cpu or cuda"
        )
    if device.type == "cuda" and device.index is not None:
        # What asks for no device in particular, such as pinning memory, must not open another.
        torch.cuda.set_device(device)
    return device


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """Settle `auto`: bf16 on a GPU that has it, fp16 on another GPU, fp32 elsewhere."""
    if precision is not Precision.auto:
        return precision
    if device.type != "cuda":
        return Precision.fp32
    # Emulated, it would be slower than fp32.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision.bf16 if native else Precision.fp16


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass in that precision; fp32 disables autocast."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
