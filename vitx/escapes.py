"""Texts from elsewhere, made harmless to a terminal and to whoever reads it."""

from __future__ import annotations

import re

# Control characters, the line ends of Unicode, what turns the direction of writing, and the bytes
# of file names that are no UTF-8. A newline among them forges a line.
_UNSEEN = r"\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINES = re.compile(f"[{_UNSEEN}]")
_IN_A_LINE = re.compile(f"[{_UNSEEN}\n]")


def visible(text: str) -> str:
    r"""Return lines of text with everything in them that a terminal would obey written out.

    >>> print(visible("rose\x1b[2J\nlily"))
    rose\x1b[2J
    lily
    """
    return _IN_LINES.sub(_written_out, text)


def visible_line(text: str) -> str:
    r"""Return a name as one line, everything that a terminal would obey written out.

    >>> print(visible_line("rose\x1b[2J\nlily"))
    rose\x1b[2J\nlily
    """
    return _IN_A_LINE.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
