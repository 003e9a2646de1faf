"""Cores and memory, beside what the processes of a run want of them."""

from __future__ import annotations

from collections.abc import Iterator

from vitx.doctor.findings import Finding, fine, gib, problem, warning
from vitx.doctor.planned import Planned, Unusable
from vitx.runtime.limits import (
    available_memory_bytes,
    cores_by_affinity,
    cores_by_quota,
    memory_share,
)

# Python, torch, timm and datasets of a process, as measured on a CPU.
_LIBRARIES_BYTES = 600 * 2**20


def check_cores(planned: Planned) -> Iterator[Finding]:
    """Compare the cores with the threads and processes of a run."""
    by_affinity, quota = cores_by_affinity(), cores_by_quota()
    cores = by_affinity if quota is None else min(by_affinity, quota)
    wanted = planned.config.runtime.threads
    threads = max(1, by_affinity // planned.ranks) if wanted is None else wanted
    computing, loading = threads * planned.ranks, planned.workers * planned.ranks
    limit = "" if quota is None else f" (a control group allows the time of {quota:g})"
    text = (
        f"{by_affinity} usable{limit}; {_times(planned.ranks, threads)} threads compute, "
        f"{_times(planned.ranks, planned.workers)} processes load"
    )
    each = max(1, int(cores) // planned.ranks)
    if computing > max(1, cores):
        text += ": threads wait for each other"
        fewer = f"runtime.devices={max(1, int(cores))}"
        mend = f"runtime.threads={each}" if threads > each else fewer
        yield warning("cores", text, f"type {mend}")
    elif loading > max(1, cores):
        yield warning("cores", f"{text}, more than there are", f"type dataset.workers={each}")
    else:
        yield fine("cores", text)


def check_memory(planned: Planned) -> Iterator[Finding]:
    """Compare memory with what a run takes even before it has seen a picture."""
    available, share = available_memory_bytes(), memory_share()
    if available is None:
        yield fine("memory", "the system does not say how much there is")
        return
    limit = "" if share is None else f" (a control group allows {gib(share.allowed)} in all)"
    text = f"{gib(available)} available{limit}"
    try:
        averages = 0 if planned.config.ema.decay is None else 1
        held = (2 + averages) * planned.parameter_bytes + planned.optimizer_bytes  # with gradients
    except Unusable:
        held = 0
    needed = planned.ranks * (_LIBRARIES_BYTES + (0 if planned.on_gpu else held))
    text += f"; libraries, weights, gradients and optimizer take {gib(needed)}"
    if needed > available:
        yield problem(
            "memory",
            text,
            "choose a smaller model, or fewer processes with runtime.devices",
        )
    elif (pictures := planned.ranks * planned.batch_bytes) > available:
        yield problem(
            "memory",
            f"{text}; the pictures of a pass take {gib(pictures)}",
            "type a smaller batch_size or runtime.micro_batch",
        )
    else:
        yield fine("memory", f"{text}, and pictures come to it: vitx check says")
    yield from _gpu_memory(planned, held)


def _gpu_memory(planned: Planned, held: int) -> Iterator[Finding]:
    if not planned.on_gpu or not planned.gpus or not held:
        return
    free = min(
        planned.need("torch").cuda.mem_get_info(number)[0]
        for number in range(min(planned.ranks, planned.gpus))
    )
    if held > free:
        yield problem(
            "memory",
            f"weights, gradients and optimizer take {gib(held)}, and a GPU has {gib(free)} free",
            "choose a smaller model, or see with nvidia-smi who uses it",
        )


def _times(ranks: int, number: int) -> str:
    return f"{ranks} x {number}" if ranks > 1 else str(number)
