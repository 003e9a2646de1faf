"""torchrun, once on every machine, as its users type it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence

from tests.machines.lab import NETWORK, Command, Machine

PORT = 29400
ENDS_S = 100.0  # a run of a few steps, of which most is importing torch on two cores
_PYTHON = (sys.executable, "-W", "ignore")
_PYTHON = (sys.executable, "-W", "ignore")

# The first machine is that of rank 0, whatever the machines are called.
BY_NUMBER = ("--node-rank={number}", f"--master-addr={NETWORK}.1", f"--master-port={PORT}")
# The one whose name comes first in the alphabet is.
BY_NAME = ("--rdzv-backend=c10d", f"--rdzv-endpoint=node0:{PORT}")


def torchrun(
    on: Sequence[Machine], *words: str, each: int = 1, how: Sequence[str] = BY_NUMBER, **env: str
) -> list[Command]:
    """Start `vitx` with these words on machines.

    Args:
        on: the machines; the run directory is on the first.
        words: those behind `vitx`.
        each: processes on each machine.
        how: words of torchrun that say how the machines meet.
        env: variables of the environment.
    """
    counts = (f"--nnodes={len(on)}", f"--nproc-per-node={each}")
    return [
        machine.start(
            *_PYTHON,
            *("-m", "torch.distributed.run", *counts),
            *(word.format(number=number) for word in how),
            *("-m", "vitx", *words),
            **env,
        )
        for number, machine in enumerate(on)
    ]


def ended(commands: Iterable[Command], code: int = 0, timeout_s: float = ENDS_S) -> list[str]:
    """Wait until all have ended, with this code; return what each wrote."""
    texts = []
    for each in commands:
        assert each.wait(timeout_s) == code, each.text
        texts.append(each.text)
    return texts


def said(text: str) -> str:
    """Return the line that a rank of `vitx` ended with, whatever torchrun wrote after it."""
    (line,) = re.findall(r"^vitx \w+: .*$", text, re.MULTILINE)
    return str(line)
