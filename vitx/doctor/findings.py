"""What a check found, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from vitx.errors import UsageError

_GIB = 2**30
_MIB = 2**20


class Grade(Enum):
    """How bad it is."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found.

    Attributes:
        grade: how bad it is.
        name: of what was looked at.
        text: what was found, in one line.
        mend: the command or setting that mends it; empty where there is nothing to mend.
        code: the exit code that it leads to.
    """

    grade: Grade
    name: str
    text: str
    mend: str = ""
    code: int = 0

    def lines(self) -> Iterator[str]:
        """Yield it as it is shown."""
        yield f"{self.grade.name:<8} {self.name:<13} {self.text}"
        if self.mend:
            yield f"{'':<8} {'':<13} {self.mend}"


def fine(name: str, text: str) -> Finding:
    """Return that something is as it has to be."""
    return Finding(grade=Grade.ok, name=name, text=text)


def warning(name: str, text: str, mend: str = "") -> Finding:
    """Return that something may lead to trouble."""
    return Finding(grade=Grade.warning, name=name, text=text, mend=mend)


def problem(name: str, text: str, mend: str = "", code: int = UsageError.exit_code) -> Finding:
    """Return that something ends a run or spoils it.

    Args:
        name: of what was looked at.
        text: what was found.
        mend: what is to be typed.
        code: what training would end with.
    """
    return Finding(grade=Grade.problem, name=name, text=text, mend=mend, code=code)


def gib(size: float) -> str:
    """Return a size for people.

    >>> gib(3 * 2**20), gib(2**31)
    ('3 MiB', '2 GiB')
    """
    return f"{size / _GIB:.3g} GiB" if size >= _GIB else f"{size / _MIB:.3g} MiB"
