"""Randomness as a pure function of the run's seed and of counters.

Nobody in vitx reads a random state that somebody else left behind: before each use the state is
set from (purpose, seed, counters). So a checkpoint needs no random state, and neither loader
workers, prefetching nor an interruption change a result.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive(purpose: str, seed: int, *counters: int) -> int:
    """Hash a purpose, the run's seed and counters to a 63-bit seed.

    Args:
        purpose: separates streams that share counters, such as `augment` and `dropout`.
        seed: the run's seed.
        counters: such as (epoch, row).

    Returns:
        A number below 2^63.

    >>> derive("order", 0, 1) == derive("order", 0, 1)
    True
    >>> derive("order", 0, 1) == derive("order", 1, 0)
    False
    """
    text = "\0".join((purpose, str(seed), *map(str, counters)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def set_random_state(value: int) -> None:
    """Seed Python's, numpy's and torch's global generators, on every device in use."""
    import torch  # takes seconds, which a verb that only derives a seed does not wait for

    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)  # noqa: NPY002 (timm's transforms read numpy's global state)
    # torch.manual_seed keeps the stack of the call for every kind of device that is not in use
    # yet: 0.2 ms, which a sample of 32 px can't afford.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
