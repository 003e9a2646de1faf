"""Choosing the device and the arithmetic."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
from pathlib import Path

import torch

from vitx.config.schema import Precision
from vitx.errors import UsageError
from vitx.runtime.limits import available_memory_bytes, cores_by_affinity

_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return the device of that name; `auto` is a GPU where there is one.

    Args:
        name: as of `runtime.device`.
        local_rank: number of one of several processes on this machine: each has its own GPU.

    Raises:
        UsageError: torch has no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None:
        if local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"runtime.devices: {local_rank + 1} processes or more, and this machine has "
                f"{torch.cuda.device_count()} GPUs"
            )
        name = f"cuda:{local_rank}"
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


def choose_inference_precision(
    precision: Precision, training: Precision, device: torch.device
) -> Precision:
    """Settle `auto` for a frozen model: that of training, but bf16 on a CPU that multiplies it."""
    if precision is not Precision.auto:
        return precision
    return Precision.bf16 if device.type == "cpu" and _cpu_multiplies_bf16() else training


def _cpu_multiplies_bf16() -> bool:
    # Without these instructions bf16 is slower than fp32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass in that precision; fp32 disables autocast."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def usable_cores() -> int:
    """Return the processor cores that this process may use."""
    return cores_by_affinity()


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory used: of the device on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    try:
        rows = Path("/proc/self/status").read_text().splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM:"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(most if platform.system() == "Darwin" else most * 1024)


def forget_peak_memory(device: torch.device) -> None:
    """Begin to measure the peak anew, what nobody uses given back before; Linux and GPUs only."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM


def usable_memory_bytes(device: torch.device) -> int | None:
    """Return the memory that this process could have in all now, its own included.

    On a CPU the least of what is available and what its control groups allow; None where the
    system does not say.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    available = available_memory_bytes()
    if available is None:
        return None
    own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return available + own
