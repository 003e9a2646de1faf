"""The label column, scanned in Arrow before the first step: a bad label is a line, not a crash."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vitx.errors import DataError, near_matches

_SHOWN = 5
_SURELY_CLASSES = 1000  # integers up to here may be classes of which few have a row


def class_names(
    column: pa.ChunkedArray,
    *,
    names: Sequence[str] | None,
    num_classes: int | None,
    where: str,
) -> tuple[str, ...]:
    """Return the classes that the training labels define.

    Args:
        column: [N] training labels, integers or text.
        names: names of the integers (a ClassLabel), or None where the dataset has none.
        num_classes: the number asked for, or None.
        where: the split and column, for errors, such as `train labels (column 'label')`.

    Returns:
        The given names; else the sorted distinct texts; else the integers `0 .. C-1` as text,
        where C is `num_classes`, or the largest label plus one.

    Raises:
        DataError: no labels at all, an unusable type, a number of classes other than asked for, or
            labels that number something else.
    """
    if len(column) == 0:
        raise DataError(f"{where}: expected at least one row, got none")
    column = _plain(column, where)
    if names is not None:
        found = tuple(names)
    elif pa.types.is_integer(column.type):
        if num_classes is None:
            num_classes = int(pc.max(column).as_py() or 0) + 1
            if num_classes > max(len(column), _SURELY_CLASSES):
                raise DataError(
                    f"{where}: labels up to {num_classes - 1} in {len(column)} rows are no class "
                    "numbers; set dataset.label_column, or dataset.num_classes where they are"
                )
        return tuple(str(number) for number in range(num_classes))
    else:
        found = tuple(sorted(pc.unique(column).drop_null().to_pylist()))
    if num_classes not in (None, len(found)):
        raise DataError(
            f"{where} name {len(found)} classes, but dataset.num_classes={num_classes}; "
            f"leave it out or set {len(found)}"
        )
    return found


def class_numbers(
    column: pa.ChunkedArray, *, classes: Sequence[str], where: str
) -> npt.NDArray[np.int64]:
    """Check every label and return it as a class number.

    Args:
        column: [N] labels, integers in `[0, C)` or text out of `classes`.
        classes: names of the C classes, in order.
        where: the split and column, for errors.

    Returns:
        [N] int64 class numbers in `[0, C)`.

    Raises:
        DataError: a label is missing, out of range, unknown, or of an unusable type; it says
            which values, how many rows, and the first of them.
    """
    if len(column) == 0:
        raise DataError(f"{where}: expected at least one row, got none")
    column = _plain(column, where)
    _refuse(column, pc.is_null(column), where, "missing (null)")
    if pa.types.is_integer(column.type):
        below = pc.less(column, pa.scalar(0, column.type))
        _refuse(column, below, where, "negative; such rows often mark a split without labels")
        # Compared in int64 where `C` might not fit the column's type, as 300 does not fit int8.
        wide = column if pa.types.is_uint64(column.type) else column.cast(pa.int64())
        above = pc.greater_equal(wide, pa.scalar(len(classes), wide.type))
        span = f"out of range: {len(classes)} classes allow 0 to {len(classes) - 1}"
        _refuse(column, above, where, span)
        numbers = column
    else:
        numbers = pc.index_in(column, value_set=pa.array(classes, pa.string()))
        unknown = pc.is_null(numbers)
        hint = ""
        if pc.any(unknown).as_py():
            hint = near_matches(column.filter(unknown)[0].as_py(), classes)
        _refuse(column, unknown, where, f"not among the {len(classes)} training classes{hint}")
    return np.ascontiguousarray(numbers.to_numpy(), dtype=np.int64)


def is_text(column: pa.ChunkedArray) -> bool:
    """Return whether labels are class names rather than class numbers."""
    kind = column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    if is_text(column):
        return column.cast(pa.string())
    if pa.types.is_integer(column.type):
        return column
    if pa.types.is_null(column.type):
        raise DataError(f"{where}: every label is missing (null)")
    raise DataError(f"{where}: expected integers or text, got {column.type}")


def _refuse(column: pa.ChunkedArray, bad: pa.ChunkedArray, where: str, why: str) -> None:
    count = int(pc.sum(bad).as_py() or 0)
    if count == 0:
        return
    first = int(pc.index(bad, pa.scalar(True)).as_py())
    rows = "1 row" if count == 1 else f"{count} rows"
    values = [repr(value) for value in pc.unique(column.filter(bad)).to_pylist()]
    shown = ", ".join(values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
    what = "" if values == ["None"] else f" {shown}"
    raise DataError(f"{where}: label{what} in {rows}, first in row {first}, is {why}")
