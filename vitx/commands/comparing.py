"""From run directories to what is compared: results of the same samples, runs as units, pairs."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitx.config.resolve import load_run_config, same_but_for_seed
from vitx.config.schema import CompareConfig, TrainConfig
from vitx.errors import UsageError
from vitx.escapes import visible_line
from vitx.evaluate.comparison import Unit
from vitx.evaluate.stored import Stored, load, refuse_other_samples
from vitx.foreign_run import refuse_strange_entries
from vitx.runs import RunDir, check_name

_SCORED = ("weights", "step", "head")  # runs of a group are measured alike
_MOST_PAIRS = 300
_SHORTEST = 3  # characters that a group can be called after


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A run that takes part.

    Attributes:
        name: what it is called.
        stored: its result.
        config: its configuration.
    """

    name: str
    stored: Stored
    config: TrainConfig

    @property
    def seed(self) -> int:
        """What it was trained with."""
        return self.config.seed


@dataclass(frozen=True, kw_only=True)
class Team:
    """A unit of the comparison, and the runs that it is made of."""

    entrants: tuple[Entrant, ...]
    unit: Unit

    @property
    def name(self) -> str:
        """What it is called."""
        return self.unit.name


def read_entrants(config: CompareConfig) -> list[Entrant]:
    """Read what each run said of each sample.

    Returns:
        The runs in the order they were typed; a baseline that was not typed among them is first.

    Raises:
        UsageError: there are fewer than two, one twice, one without such a result, or results of
            different samples or classes.
        StorageError: a result or a configuration is damaged.
    """
    suite = check_name(config.suite)
    paths = list(config.runs)
    if config.baseline is not None and _same(config.baseline, paths) is None:
        paths.insert(0, config.baseline)
    if len(paths) < 2:
        raise UsageError("expected two runs or more; type vitx compare RUN RUN")
    for one, two in itertools.combinations(paths, 2):
        if _same(two, [one]) is not None:
            raise UsageError(f"{two}: the same run as {one}; name each once")
    results = [load(_run_at(path), suite) for path in paths]
    for other in results[1:]:
        refuse_other_samples(results[0], other)
    return [
        Entrant(name=name, stored=stored, config=load_run_config(RunDir(Path(path)).config))
        for path, name, stored in zip(paths, _names(paths), results, strict=True)
    ]


def make_teams(entrants: Sequence[Entrant], *, grouped: bool) -> list[Team]:
    """Put runs together that differ only by seed, and were measured alike.

    Args:
        entrants: the runs.
        grouped: whether to; else each is by itself.

    Returns:
        Units in the order of their first runs. A second run of the same seed is by itself: it
        tells nothing of what another seed would do.
    """
    lists: list[list[Entrant]] = []
    for entrant in entrants:
        own = next((each for each in lists if grouped and _belongs(entrant, each)), None)
        if own is None:
            lists.append([entrant])
        else:
            own.append(entrant)
    names = _distinct([_group_name(each) for each in lists], lists)
    return [_team(each, name) for each, name in zip(lists, names, strict=True)]


def pairs_of(teams: Sequence[Team], baseline: str | None) -> list[tuple[Team, Team]]:
    """Return what is compared with what, second minus first.

    Raises:
        UsageError: all runs form one group, or they are too many.
    """
    if len(teams) < 2:
        raise UsageError(
            "these runs differ only by seed and form one group, with nothing to compare it with; "
            "groups=false compares them with each other"
        )
    if baseline is None:
        return _few(list(itertools.combinations(teams, 2)))
    paths = {id(team): [str(each.stored.run) for each in team.entrants] for team in teams}
    first = next(team for team in teams if _same(baseline, paths[id(team)]) is not None)
    return _few([(first, team) for team in teams if team is not first])


def _few(pairs: list[tuple[Team, Team]]) -> list[tuple[Team, Team]]:
    if len(pairs) > _MOST_PAIRS:
        raise UsageError(
            f"{len(pairs)} comparisons are more than a picture holds or a correction leaves "
            f"anything of, at most {_MOST_PAIRS}; name fewer runs, or baseline=RUN"
        )
    return pairs


def _run_at(path: str) -> RunDir:
    run = RunDir(Path(path))
    if not run.exists():
        raise UsageError(f"{path}: no run there (no {run.config.name})")
    refuse_strange_entries(run.path)
    return run


def _same(path: str, others: Sequence[str]) -> str | None:
    """Return which of other paths leads to the same place."""
    real = os.path.realpath(path)
    return next((other for other in others if os.path.realpath(other) == real), None)


def _names(paths: Sequence[str]) -> list[str]:
    """Call runs by the last part of their path, or where that is not enough by all of it."""
    last = [Path(os.path.abspath(path)).name for path in paths]
    chosen = last if len(set(last)) == len(last) else list(paths)
    return [visible_line(name) for name in chosen]


def _belongs(entrant: Entrant, group: Sequence[Entrant]) -> bool:
    first, numbers = group[0], entrant.stored.numbers
    return (
        same_but_for_seed(first.config, entrant.config)
        and all(first.stored.numbers.get(key) == numbers.get(key) for key in _SCORED)
        and entrant.seed not in [each.seed for each in group]
    )


def _group_name(group: Sequence[Entrant]) -> str:
    """Call a group by what the names of its runs have in common."""
    names = [each.name for each in group]
    if len(names) == 1:
        return names[0]
    common = os.path.commonprefix(names)
    if len(common.strip("-_., =")) < _SHORTEST:  # the runs of a sweep begin with a number
        matcher = difflib.SequenceMatcher(None, names[0], names[1], autojunk=False)
        block = matcher.find_longest_match()
        common = names[0][block.a : block.a + block.size]
    common = common.strip("-_., =").removesuffix("seed").strip("-_., =")
    if len(common) < _SHORTEST or not all(common in name for name in names):
        return names[0]
    return common


def _distinct(names: Sequence[str], groups: Sequence[Sequence[Entrant]]) -> list[str]:
    """Return names, those that are there twice replaced by that of their first run."""
    return [
        name if names.count(name) == 1 else group[0].name
        for name, group in zip(names, groups, strict=True)
    ]


def _team(group: Sequence[Entrant], name: str) -> Team:
    results = [each.stored for each in group]
    losses = [each.loss for each in results if each.loss is not None]
    if len(group) > 1:
        name = f"{name} x{len(group)}"
    unit = Unit(
        name=name,
        correct=np.stack([each.correct for each in results], axis=1),
        prediction=np.stack([each.prediction for each in results], axis=1),
        loss=np.stack(losses, axis=1) if len(losses) == len(results) else None,
    )
    return Team(entrants=tuple(group), unit=unit)
