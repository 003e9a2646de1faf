"""`vitx doctor`: what is wrong with an environment, and what mends it."""

from __future__ import annotations

import sys

from vitx.config.manual import page
from vitx.config.words import PLANNED, split
from vitx.doctor.examination import CHECKS
from vitx.doctor.findings import Finding, Grade
from vitx.doctor.supervision import examine
from vitx.errors import UsageError, near_matches


def main(args: list[str]) -> int:
    """Carry out `vitx doctor` with these arguments: a verb and its words, or those of `train`.

    Returns:
        0, or the exit code of the first problem.

    Raises:
        UsageError: the words can't be carried out.
    """
    verb, words = (args[0], args[1:]) if args else ("train", [])
    if "=" in verb or verb.startswith(("-", "~")):
        verb, words = "train", args
    if verb not in PLANNED:
        hint = near_matches(verb, PLANNED) or f"; {' or '.join(PLANNED)} can be planned"
        raise UsageError(f"{verb}: no run that can be planned{hint}")
    if {"--help", "-h"} & {*words}:
        sys.stdout.write(page("doctor" if words is args else verb))
        return 0
    if split(verb, words).shows_only:
        raise UsageError(f"doctor shows no configuration; type vitx {verb} {' '.join(words)}")
    found = []
    for finding in examine(verb, words, [*CHECKS]):
        print("\n".join(finding.lines()), flush=True)
        found.append(finding)
    print(_conclusion(found))
    return next((each.code for each in found if each.grade is Grade.problem), 0)


def _conclusion(found: list[Finding]) -> str:
    numbers = {
        grade: sum(finding.grade is grade for finding in found)
        for grade in (Grade.problem, Grade.warning)
    }
    told = [
        f"{number} {grade.name}{'s' if number > 1 else ''}"
        for grade, number in numbers.items()
        if number
    ]
    return ", ".join(told) or "found nothing wrong"
