"""Inflicting one fault after another, and what came of each."""

from __future__ import annotations

import shlex
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from vitx.torture.bench import Bench
from vitx.torture.beside import beside
from vitx.torture.table import Fault
from vitx.torture.verdicts import Broken, Facts, Lacking


class Verdict(Enum):
    """What came of a fault."""

    passed = "pass"
    failed = "fail"
    skipped = "skipped"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the fault.
        done: what was done.
        verdict: what came of it.
        seconds: how long it took.
        facts: what was done and seen.
        expected: of a failure.
        came: of a failure; of a skipped fault what is missing.
        again: the command that inflicts it alone.
    """

    name: str
    done: str
    verdict: Verdict
    seconds: float
    again: str
    facts: Facts = field(default_factory=dict)
    expected: str = ""
    came: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "verdict": self.verdict.value}


def inflict_all(faults: Sequence[Fault], bench: Bench) -> Iterator[Row]:
    """Inflict faults, those that mostly wait beside the others.

    Yields:
        A row for each, as it is known.
    """
    waiting = [_Beside(fault, bench) for fault in faults if fault.beside]
    for fault in faults:
        if not fault.beside:
            yield inflict(fault, bench)
    for each in waiting:
        bench.say(f"{each.fault.name}: waiting for its end")
        yield each.row()


def inflict(fault: Fault, bench: Bench) -> Row:
    """Inflict one fault."""
    started = time.monotonic()
    verdict, facts, expected, came = Verdict.passed, Facts(), "", ""
    try:
        facts = fault.inflict(bench)
    except Broken as broken:
        verdict, expected, came = Verdict.failed, broken.expected, broken.came
    except Lacking as lacking:
        verdict, came = Verdict.skipped, str(lacking)
    except Exception as error:  # noqa: BLE001 (one that fails is no end of the others)
        trace = "".join(traceback.format_exception(error))
        verdict, expected, came = Verdict.failed, "no error of torture itself", trace
    return Row(
        name=fault.name,
        done=fault.done,
        verdict=verdict,
        seconds=round(time.monotonic() - started, 1),
        facts=facts,
        expected=expected,
        came=came,
        again=command(fault, bench),
    )


def command(fault: Fault, bench: Bench) -> str:
    """Return what inflicts a fault alone, as here."""
    usual = Bench(bench.folder)
    differing = [
        f"{name}={getattr(bench, name)}"
        for name in ("kills", "devices", "seed")
        if getattr(bench, name) != getattr(usual, name)
        and (name != "kills" or fault.name == name[:4])
    ]
    return shlex.join(["vitx", "torture", f"only={fault.name}", *differing])


class _Beside:
    """A fault in a thread of its own."""

    def __init__(self, fault: Fault, bench: Bench) -> None:
        self.fault = fault
        self._row = beside(lambda: inflict(fault, bench))

    def row(self) -> Row:
        return self._row()
