"""How torch's CPU threads wait for each other. Has to be settled before torch is imported."""

from __future__ import annotations

import os

# Iterations, some tenths of a millisecond: longer than what lies between two operations of a step,
# so that an idle machine loses nothing; a tenth of it costs 2 to 4 %. A thread that waits for long
# keeps the core from the one it waits for: with two busy neighbours on two cores, ViT-Ti/4 trains
# 1.6 times as fast as with GNU OpenMP's default, which is thirty times as long.
SPIN_COUNT = "10000"


def wait_politely() -> None:
    """Let waiting threads give their core away soon, unless the environment says otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
