"""This machine: what it is, and how fast it multiplies matrices. The yardstick of the others.

Alone it prints its own table; the other benchmarks import it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vitx

SIDE = 2048


def matmul_rate(dtype: torch.dtype, *, seconds: float) -> float:
    """Return the median rate of square matrix products in GFLOP/s, two operations to a MAC."""
    left = torch.randn(SIDE, SIDE).to(dtype)
    right = torch.randn(SIDE, SIDE).to(dtype)
    rates = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        started = time.perf_counter()
        torch.mm(left, right)
        rates.append(2 * SIDE**3 / (time.perf_counter() - started) / 1e9)
    return statistics.median(rates)


def describe() -> dict[str, Any]:
    """Return date, machine and versions, for the record of a figure."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": version("timm"),
        "vitx": vitx.__version__,
    }


class CpuShare:
    """The share of this machine's CPU time that went to processes outside a process group.

    0 where there is no /proc to read it from. Time stolen by other guests of the same host counts.
    """

    def __init__(self, group: int) -> None:
        self._group, self._own, self._all = group, _group_ticks(group), _busy_ticks()
        self._started = time.perf_counter()

    def of_others(self) -> float:
        """Return the share since construction, in [0, 1]."""
        ticks = _busy_ticks() - self._all - (_group_ticks(self._group) - self._own)
        seconds = (time.perf_counter() - self._started) * (os.cpu_count() or 1)
        return max(0.0, ticks / os.sysconf("SC_CLK_TCK") / seconds)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; `make bench` hands all benchmarks the same one."""
    known, others = parser.parse_known_args()
    if others:
        print(f"{parser.prog} knows no {' '.join(others)}; left to the other benchmarks")
    return known


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a title and aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    print(f"\n{title}")
    for first, *others in [header, *rows]:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def print_record(benchmark: str, figures: dict[str, Any]) -> None:
    """Print the figures with machine and versions as one line of JSON."""
    print(json.dumps({"benchmark": benchmark, **describe(), "figures": figures}), flush=True)


def _busy_ticks() -> int:
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    except OSError:
        return 0
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, first)
    return user + nice + system + interrupts + soft_interrupts + stolen


def _group_ticks(group: int) -> int:
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name in brackets: state, parent, group, ..., user and system ticks.
            behind = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(behind[2]) == group:
            ticks += int(behind[11]) + int(behind[12])
    return ticks


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="per precision")
    seconds = parse(parser).seconds
    rates = {
        name: matmul_rate(dtype, seconds=seconds)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    print_table(
        f"matrix products of side {SIDE}, {torch.get_num_threads()} threads",
        ("precision", "GFLOP/s"),
        [(name, f"{rate:.0f}") for name, rate in rates.items()],
    )
    print_record("machine", {f"matmul_{name}_gflops": round(rate) for name, rate in rates.items()})


if __name__ == "__main__":
    main()
