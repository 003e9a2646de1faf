"""The table of faults as text and as JSON, and how far it is meanwhile."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import vitx
from vitx.files import write_json
from vitx.runs import now
from vitx.torture.inflicting import Row, Verdict

SCHEMA = 1

_LIBRARIES = ("torch", "timm", "numpy", "safetensors")
_NAME_WIDTH = 17
_QUIET_S = 60.0  # between two words on how far it is, where no terminal shows them in place
_MOST_LINES = 12  # shown of what came; all of it is in the report


def lines_of(row: Row) -> Iterator[str]:
    """Yield a row of the table as it is shown."""
    yield f"{row.verdict.value:<8} {row.name:<{_NAME_WIDTH}} {row.seconds:>7.1f} s  {row.done}"
    indent = " " * (_NAME_WIDTH + 21)
    if row.verdict is Verdict.skipped:
        yield indent + row.came
    if row.verdict is Verdict.failed:
        yield indent + f"expected {row.expected}"
        first, *rest = row.came.strip().splitlines()[-_MOST_LINES:] or [""]
        yield indent + f"came     {first}"
        yield from (indent + f"         {line}" for line in rest)
        yield indent + row.again
    elif told := _told(row.facts):
        yield indent + told


def summary(rows: Sequence[Row], seconds: float) -> str:
    """Return the last line: counts, machine, versions, date."""
    counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict}
    counted = f"{counts[Verdict.passed]} passed, {counts[Verdict.failed]} failed, "
    counted += f"{counts[Verdict.skipped]} skipped in {seconds:.0f} s"
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return f"{counted}; {_machine()}; {versions}; {now()[:10]}"


def write(file: Path, rows: Sequence[Row], settings: dict[str, Any], seconds: float) -> None:
    """Write all of it as JSON."""
    write_json(
        file,
        {
            "schema": SCHEMA,
            "date": now(),
            "machine": _machine(),
            "versions": _versions(),
            "settings": settings,
            "seconds": round(seconds, 1),
            "summary": summary(rows, seconds),
            "rows": [row.as_dict() for row in rows],
        },
    )


class Progress:
    """Says how far it is: in one line of a terminal, else now and then in a line of its own."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._said_s = time.monotonic()

    def __call__(self, text: str) -> None:
        """Say it."""
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
        elif time.monotonic() - self._said_s > _QUIET_S:
            self._said_s = time.monotonic()
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Make room for a line of the table."""
        if self._in_place:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _told(facts: dict[str, Any]) -> str:
    """Return facts in one line; hashes by their first digits."""
    parts = []
    for name, value in facts.items():
        shown = str(value)[:12] if name.startswith("sha256") else value
        if isinstance(value, dict):
            shown = ", ".join(f"{each} {number}" for each, number in value.items())
            shown = f"({shown})"
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def _versions() -> dict[str, str]:
    found = {"vitx": vitx.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _LIBRARIES}
