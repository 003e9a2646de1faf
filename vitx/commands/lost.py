"""What a run directory lost between two sessions: told in a line each, and kept in run.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

from vitx.config.schema import TrainConfig
from vitx.loggers.jsonl import Found
from vitx.records import Plan
from vitx.train.events import Every

Say = Callable[[str], None]


def tell_losses(
    record: dict[str, Any],
    found: Found,
    config: TrainConfig,
    plan: Plan,
    *,
    last_row: int,
    say: Say,
) -> None:
    """Tell what a session that begins or goes on does not find, before it changes run.json.

    Args:
        record: run.json as the last session left it; what is lost for good is noted there.
        found: what was in metrics.jsonl.
        config: says which steps have a row.
        plan: the length of the run.
        last_row: step of the last row when the checkpoint was made that the run goes on from; -1
            where it begins.
        say: takes the lines.
    """
    if last_row < 0:
        _tell_lost_checkpoints(record, found, say)
        # Nothing of an earlier session is in what comes now.
        record["exact"], record["metrics_missing"] = {"resume": True, "why": []}, []
        return
    if record["environment"] is None:  # a session notes it before its first step
        say(
            "run.json was lost: when the run began and what its steps so far were computed with "
            "is not known, so exact.resume is false in the new one"
        )
    if found.copy is not None:
        say(f"line {found.bad_line} of metrics.jsonl is no row; {found.copy.name} still has it")
    gaps = list(_gaps(found.kept, _row_steps(config, plan, last_row)))
    if gaps and gaps != record["metrics_missing"]:  # once: they are missing for good
        say(
            f"metrics.jsonl lacks the rows of {', '.join(map(_place, gaps))}: it was truncated, "
            "changed or deleted; training goes on"
        )
    record["metrics_missing"] = gaps


def _tell_lost_checkpoints(record: dict[str, Any], found: Found, say: Say) -> None:
    if record["data"] is None and not found.removed:  # no session came as far as its first step
        return
    rows = f"; metrics.jsonl, which went to step {max(found.removed)}, too" if found.removed else ""
    say(f"there is no checkpoint to go on from: training begins again{rows}")


def _row_steps(config: TrainConfig, plan: Plan, last: int) -> Iterator[int]:
    intervals = [
        Every(config.logger.every, plan, setting="logger.every"),
        Every(config.evaluation.every, plan, setting="evaluation.every"),
    ]
    last = min(last, plan.total_steps)  # somebody else may have written it
    return (step for step in range(1, last + 1) if any(each.due(step) for each in intervals))


def _gaps(kept: Set[int], expected: Iterator[int]) -> Iterator[dict[str, int]]:
    """Yield what is missing in one piece: the first and last step, and how many rows they are."""
    gap: dict[str, int] = {}
    for step in expected:
        if step not in kept:
            gap = {"first": gap.get("first", step), "last": step, "rows": gap.get("rows", 0) + 1}
        elif gap:
            yield gap
            gap = {}
    if gap:
        yield gap


def _place(gap: dict[str, int]) -> str:
    if gap["rows"] == 1:
        return f"step {gap['first']}"
    return f"steps {gap['first']} to {gap['last']}"
