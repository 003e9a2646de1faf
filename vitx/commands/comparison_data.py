"""A comparison as plain data: all of its numbers, as they are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vitx.commands.comparing import Entrant, Team
from vitx.commands.comparison_lines import group_means, top1_of, verdict
from vitx.commands.comparison_notes import notes_of
from vitx.config.plain_data import to_plain
from vitx.config.schema import CompareConfig
from vitx.evaluate.comparison import Comparison, mean_loss
from vitx.evaluate.stored import Stored

SCHEMA = 1


def as_data(
    teams: Sequence[Team], found: Sequence[Comparison], config: CompareConfig
) -> dict[str, Any]:
    """Return everything as plain data."""
    stored = teams[0].entrants[0].stored
    return {
        "schema": SCHEMA,
        "settings": to_plain(config),
        "suite": stored.suite,
        "count": len(stored),
        "samples": stored.numbers.get("samples"),
        "runs": [_run_data(each, config.level) for team in teams for each in team.entrants],
        "groups": [_group_data(team) for team in teams if len(team.entrants) > 1],
        "correction": {
            "method": "Holm",
            "family": f"{len(found)} comparisons of top-1",
            "classes": "of a comparison by itself",
        },
        "comparisons": [_comparison_data(each, stored, config.level) for each in found],
        "notes": list(notes_of(teams, found, config.level)),
    }


def _run_data(entrant: Entrant, level: float) -> dict[str, Any]:
    stored = entrant.stored
    return {
        "name": entrant.name,
        "run": str(stored.run),
        "seed": entrant.seed,
        **{key: stored.numbers.get(key) for key in ("step", "weights", "head", "dataset", "split")},
        "top1": dataclasses.asdict(top1_of(entrant, level)),
        "loss": mean_loss(stored.loss),
    }


def _group_data(team: Team) -> dict[str, Any]:
    top1, loss = group_means(team)
    return {
        "name": team.name,
        "runs": [each.name for each in team.entrants],
        "top1": dataclasses.asdict(top1),
        "loss": None if loss is None else dataclasses.asdict(loss),
    }


def _comparison_data(found: Comparison, stored: Stored, level: float) -> dict[str, Any]:
    data = dataclasses.asdict(found)
    for entry in data["classes"]:
        entry["name"] = None if stored.classes is None else stored.classes[entry["number"]]
    covers = "samples and seeds" if found.over_seeds else "samples"
    return {**data, "covers": covers, "shown": found.shown(level), "says": verdict(found, level)}
