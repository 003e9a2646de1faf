"""Where things are: the shipped configuration, the runs, the cache."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """Return the absolute folder of the shipped configuration."""
    return _shipped("conf")


def recipes_dir() -> Path:
    """Return the absolute folder of the shipped recipes."""
    return _shipped("recipes")


def slurm_dir() -> Path:
    """Return the absolute folder of the shipped scripts for Slurm."""
    return _shipped("slurm")


def runs_dir() -> Path:
    """Return the folder that new runs are made in: `$VITX_RUNS`, else `runs` here."""
    return Path(os.environ.get("VITX_RUNS", "runs"))


def sweeps_dir() -> Path:
    """Return the directory in which sweeps are put."""
    return runs_dir() / "sweeps"


def cache_dir() -> Path:
    """Return the folder of what can be made again: `$VITX_CACHE`, else the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VITX_CACHE") or home / "vitx")


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    Raises:
        OSError: it can't be made.
    """
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _shipped(name: str) -> Path:
    # A wheel carries the folder inside the package; a checkout has it beside the package.
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
