"""Checks of `vitx doctor` in processes of their own, and what they are to find there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vitx.config.schema import ModelConfig, TrainConfig
from vitx.doctor.planned import Planned

ROOT = Path(__file__).resolve().parents[2]
# Prints what checks of a module find of a run on the CPU; `{change}` changes that run.
_PROGRAM = """
import vitx.doctor.{module} as module
from vitx.doctor.planned import Planned
from tests.doctor.looking import plain
planned = plain()
{change}
for name in "{checks}".split():
    for finding in getattr(module, name)(planned):
        print("\\n".join(finding.lines()))
"""


def plain() -> Planned:
    """Return a run of a small model on a CPU."""
    config = TrainConfig(model=ModelConfig(name="vit_tiny_patch16_224"))
    config.runtime.device = "cpu"
    config.dataset.num_classes = 10
    return Planned(config=config)


def found(
    module: str, checks: str, *, change: str = "", limits: tuple[str, ...] = (), **env: str
) -> str:
    """Return what checks say in a process with these limits and variables."""
    program = _PROGRAM.format(module=module, checks=checks, change=change)
    places = [env.pop("PYTHONPATH", ""), str(ROOT)]
    done = subprocess.run(
        [*limits, sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
