"""What the numbers of a comparison are, what they cover, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vitx.commands.comparing import Team
from vitx.escapes import visible_line
from vitx.evaluate.comparison import Comparison
from vitx.evaluate.stored import Stored


def notes_of(teams: Sequence[Team], found: Sequence[Comparison], level: float) -> Iterator[str]:
    """Say what the numbers are, and what they are not."""
    yield "X - Y is what X has minus what Y has, on the same pictures."
    if any(not each.over_seeds for each in found):
        yield (
            f"Of two runs: {100 * level:g} % paired bootstrap intervals, for other pictures and "
            "these trained models; another seed is not in them. p is of McNemar's exact test."
        )
    if any(each.over_seeds for each in found):
        yield (
            f"Of groups: {100 * level:g} % intervals and p of Student's t, for other pictures and "
            "other seeds."
        )
    single = {
        name
        for each in found
        if each.over_seeds
        for name, seeds in ((each.a, each.a_seeds), (each.b, each.b_seeds))
        if seeds == 1
    }
    for name in sorted(single):
        yield f"{name} has one seed: no seed variance known, and none is in its intervals."
    if len(found) > 1:
        yield (
            f"Corrected by Holm's method over the {len(found)} comparisons of top-1; intervals are "
            "not."
        )
    yield f"A difference of top-1 is shown where the corrected p is below {1 - level:.3g}."
    yield from _doubts(teams)


def _doubts(teams: Sequence[Team]) -> Iterator[str]:
    """Say where runs were not measured alike."""
    entrants = [each for team in teams for each in team.entrants]
    for key in ("dataset", "split", "weights"):
        values = {visible_line(str(each.stored.numbers.get(key))) for each in entrants}
        if len(values) > 1:
            yield f"Not measured alike: {key} is {', '.join(sorted(values))}."
    if len({each.stored.name is None for each in entrants}) > 1:
        yield "Some results hold no names of files: of those, rows and labels were compared."
    odd = [each.name for each in entrants if _loss_is_odd(each.stored)]
    if odd:
        yield f"Not finite for some picture, so not compared: the loss of {', '.join(odd)}."


def _loss_is_odd(stored: Stored) -> bool:
    return stored.loss is not None and not bool(np.isfinite(stored.loss).all())
