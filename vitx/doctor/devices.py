"""GPUs, the device and precision that a run asks for, and the compiler of `torch.compile`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitx.config.schema import Precision
from vitx.doctor.findings import Finding, fine, gib, problem, warning
from vitx.doctor.planned import Planned
from vitx.errors import UsageError

_DRIVER = Path("/proc/driver/nvidia/version")
_WIDE, _BF16 = ("avx2", "avx512f"), ("avx512_bf16", "amx_bf16")  # as Linux names instructions
_COMPILERS = ("g++", "clang++", "c++")
_COMPILED = "#include <Python.h>\n#include <omp.h>\nint main() { return omp_get_max_threads(); }\n"
_COMPILES_S = 20


def check_gpus(planned: Planned) -> Iterator[Finding]:
    """Look at the GPUs that torch sees, and at those that it does not see."""
    torch = planned.need("torch")
    for number in range(planned.gpus):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        yield fine(
            "gpu",
            f"cuda:{number} {about.name}, {gib(free)} of {gib(total)} free, capability "
            f"{about.major}.{about.minor}, torch for {_runtime(torch)}",
        )
    if planned.gpus:
        return
    driver = _driver()
    if driver is None:
        yield fine("gpu", "none; a run computes on the CPU")
    elif torch.version.cuda is None:
        yield warning(
            "gpu",
            f"there is one ({driver}), and torch {torch.__version__} is built for the CPU",
            "install torch and torchvision for CUDA from one index, both at once",
        )
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        yield warning("gpu", "CUDA_VISIBLE_DEVICES hides all", "type unset CUDA_VISIBLE_DEVICES")
    else:
        yield warning(
            "gpu",
            f"torch for {_runtime(torch)} can't use the one that is here ({driver}): "
            f"{_why_none(torch)}",
            "update the driver, or install a torch for its version of CUDA; see nvidia-smi",
        )


def check_device(planned: Planned) -> Iterator[Finding]:
    """Look whether `runtime.device` and `runtime.devices` can be had."""
    planned.need("torch")
    from vitx.runtime.device import choose_device

    runtime = planned.config.runtime
    try:
        device = choose_device(runtime.device)
    except UsageError as error:
        yield problem("device", str(error), "type runtime.device=auto")
        return
    if planned.on_gpu and planned.ranks > planned.gpus:
        yield problem(
            "device",
            f"runtime.devices={runtime.devices}: there are {planned.gpus} GPUs",
            f"type runtime.devices={planned.gpus}",
        )
    elif runtime.devices is not None and runtime.devices < 1:
        text = f"runtime.devices={runtime.devices}: expected at least 1"
        yield problem("device", text, "type runtime.devices=1")
    else:
        several = f", {planned.ranks} processes" if planned.ranks > 1 else ""
        yield fine("device", f"runtime.device={runtime.device} is {device.type}{several}")


def check_precision(planned: Planned) -> Iterator[Finding]:
    """Look whether there are instructions for the arithmetic that a run asks for."""
    torch = planned.need("torch")
    from vitx.runtime.device import choose_device, choose_precision

    try:
        device = choose_device(planned.config.runtime.device)
    except UsageError:
        return  # told where the device is looked at
    chosen = choose_precision(planned.config.precision, device)
    text, fast, instead = f"{chosen.name} on {device.type}", True, "fp16"
    if device.type == "cuda" and chosen is Precision.bf16:
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        has = [name for name in (*_WIDE, *_BF16) if name in _cpu_flags()]
        text += f" with {torch.backends.cpu.get_cpu_capability()} ({', '.join(has) or 'none'})"
        fast = chosen is Precision.fp32 or (chosen is Precision.bf16 and bool({*has} & {*_BF16}))
        instead = "fp32"
    if fast:
        yield fine("precision", text)
    else:
        text += f": there are no instructions for {chosen.name}"
        yield warning("precision", text, f"type precision={instead}")


def check_compiler(planned: Planned) -> Iterator[Finding]:
    """Look for the C++ compiler that `torch.compile` calls, where it is asked for."""
    if not planned.config.runtime.compile:
        return
    wanted = (os.environ.get("CXX", ""), *_COMPILERS)
    compiler = next((found for name in wanted if name and (found := shutil.which(name))), None)
    install = "install g++ and python3-dev, or type runtime.compile=false"
    if compiler is None:
        yield problem("compiler", "runtime.compile=true: there is no C++ compiler", install)
        return
    done = subprocess.run(  # noqa: S603 (a compiler that is on the path)
        [compiler, "-x", "c++", "-fsyntax-only", "-I", sysconfig.get_path("include"), "-"],
        input=_COMPILED,
        capture_output=True,
        text=True,
        timeout=_COMPILES_S,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        reason = (errors or ["it fails"])[0]
        yield problem("compiler", f"runtime.compile=true: {compiler}: {reason}", install)
    else:
        yield fine("compiler", compiler)


def _runtime(torch: Any) -> str:
    if torch.version.cuda is not None:
        return f"CUDA {torch.version.cuda}"
    hip = getattr(torch.version, "hip", None)
    return f"ROCm {hip}" if hip else "the CPU"


def _driver() -> str | None:
    """Return what is there of a driver of Nvidia; None where there is nothing."""
    if _DRIVER.is_file():
        return _DRIVER.read_text(encoding="utf-8").partition("\n")[0].partition(": ")[2].strip()
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    return f"/dev/{devices[0]}" if devices else None


def _why_none(torch: Any) -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0]
    return "it says no reason"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next(({*line.split()} for line in lines if line.startswith("flags")), set())
