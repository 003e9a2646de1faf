"""Training programs take turns of a second, so that all of them meet the same machine."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from scipy import stats
from training.contestants import EPOCH_LIMIT_S, Contestant, Turn

FEWEST_ROUNDS = 2  # an interval needs two
# Of the machine's CPU time. A little costs much: at every operation one thread waits for the other.
OTHERS_LIMIT = 0.03
TURN_S = 1.0


def take_rounds(
    contestants: Sequence[Contestant],
    *,
    samples: int,
    rounds: int,
    limit_s: float,
    after_round: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], int]:
    """Let the contestants train an epoch each, round after round.

    Args:
        contestants: who takes turns.
        samples: pictures to an epoch.
        rounds: wanted.
        limit_s: seconds after which no round is repeated, and none begun but the second.
        after_round: called after each round that counts.

    Returns:
        Images/s of each contestant by round, and how many rounds were disturbed and repeated.
    """
    deadline, repeated = time.perf_counter() + limit_s, 0
    rates: dict[str, list[float]] = {each.name: [] for each in contestants}
    with ExitStack() as stack:
        for contestant in contestants:
            stack.enter_context(contestant.started())
        for number in range(rounds):
            while True:
                late = time.perf_counter() > deadline
                if late and number >= FEWEST_ROUNDS:
                    return rates, repeated
                epochs = train_epochs(contestants)
                disturbed = max(each.others_s / each.seconds for each in epochs) > OTHERS_LIMIT
                if late or not disturbed:
                    break
                repeated += 1
            for contestant, epoch in zip(contestants, epochs, strict=True):
                rates[contestant.name].append(samples / epoch.seconds)
            after_round()
    return rates, repeated


def train_epochs(contestants: Sequence[Contestant]) -> list[Turn]:
    """Let each train one epoch, a turn at a time; return what each epoch took."""
    epochs = {
        contestant.name: Turn(seconds=0.0, epoch_done=False, others_s=0.0)
        for contestant in contestants
    }
    while waiting := [each for each in contestants if not epochs[each.name].epoch_done]:
        for contestant in waiting:
            # What one left for the disk must not be written in the other's time.
            os.sync()
            epochs[contestant.name] += contestant.train_for(TURN_S)
            if epochs[contestant.name].seconds > EPOCH_LIMIT_S:
                contestant.give_up("made no checkpoint")
    return list(epochs.values())


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ours / theirs by round, and its 95 % t interval."""
    logs = np.log(np.asarray(ours) / np.asarray(theirs))
    middle = float(logs.mean())
    half = 0.0
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def cells(rates: Sequence[float]) -> tuple[str, str, str]:
    """Return median, least and most of some rates, as cells of a table."""
    return (f"{statistics.median(rates):.1f}", f"{min(rates):.1f}", f"{max(rates):.1f}")
