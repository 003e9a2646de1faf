"""What a fault can come to besides facts: a promise that is not kept, or no answer."""

from __future__ import annotations

from typing import Any

Facts = dict[str, Any]
"""What was done and seen, as plain data."""

_MOST_CHARACTERS = 4000  # of what a program said


class Broken(Exception):  # noqa: N818 (it says of a promise what it is)
    """A promise is not kept."""

    def __init__(self, expected: str, came: object) -> None:
        self.expected, self.came = expected, str(came)[-_MOST_CHARACTERS:]
        super().__init__(f"expected {expected}; came {self.came}")


class Lacking(Exception):  # noqa: N818 (it says of the machine what it is)
    """The machine has no right or program that it takes; the message names it."""


def demand(truth: object, expected: str, came: object) -> None:
    """Go on where something is as promised.

    Raises:
        Broken: it is not.
    """
    if not truth:
        raise Broken(expected, came)


def demand_equal(came: object, expected: object, what: str) -> None:
    """Go on where two things are equal.

    Raises:
        Broken: they are not.
    """
    demand(came == expected, f"{what} {expected}", came)
