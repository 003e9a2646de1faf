"""How torch's CPU threads wait for each other. Has to be settled before torch is imported."""

from __future__ import annotations

import os

# Iterations, some microseconds. GNU OpenMP spins for milliseconds by default, which is right on an
# idle machine (5 % faster with XCiT-N12 at 32 px, the same with ViT-Ti/4) and costs half the speed
# or more on a busy one: with a browser or a second run beside it, a thread that waits takes the
# core from the one it waits for.
SPIN_COUNT = "1000"


def wait_politely() -> None:
    """Let waiting threads give their core away soon, unless the environment says otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
