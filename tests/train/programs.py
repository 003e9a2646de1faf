"""`vitx` as processes that tests can send signals to, and files that hold them up."""

from pathlib import Path

from vitx.torture.programs import Program, Programs, held, live_processes, until

__all__ = ["ROOT", "Program", "Programs", "held", "live_processes", "until"]

ROOT = Path(__file__).resolve().parents[2]
