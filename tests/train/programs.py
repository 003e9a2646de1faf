"""`vitx` as processes that tests can send signals to, and files that hold them up."""

import contextlib
from pathlib import Path

from vitx.torture.programs import Program, Programs, held, live_processes, until

__all__ = ["ROOT", "Program", "Programs", "held", "live_processes", "until", "words_of"]

ROOT = Path(__file__).resolve().parents[2]


def words_of(pid: int) -> list[str]:
    """Return the command line of a process; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []
