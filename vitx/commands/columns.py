"""Tables of the terminal: columns as wide as they have to be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> Iterator[str]:
    """Yield rows of cells as lines; the columns `numbers` are flush right, the others left.

    >>> list(aligned([("a", "n"), ("long", "12")], numbers={1}))
    ['a      n', 'long  12']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
