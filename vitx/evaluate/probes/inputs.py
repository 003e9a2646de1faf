"""Features that no classifier can be made of, or asked about.

Shapes: N rows, D width, R rows at a time.
"""

from __future__ import annotations

from torch import Tensor

from vitx.errors import DataError

ROWS_AT_ONCE = 16384
"""Rows of features that are looked at together where all of them would take too much memory."""


def check_features(features: Tensor, what: str) -> None:
    """Refuse features that no distance can be measured between.

    Args:
        features: [N, D].
        what: whose they are, for the error.

    Raises:
        DataError: there are none, or one is NaN or infinite.
    """
    if features.ndim != 2 or not features.numel():
        raise DataError(f"{what} have the shape {tuple(features.shape)}: expected [N, D]")
    for start in range(0, len(features), ROWS_AT_ONCE):
        refuse_non_finite(features[start : start + ROWS_AT_ONCE].isfinite().all(1), start, what)


def refuse_non_finite(finite: Tensor, first: int, what: str) -> None:
    """Refuse rows that are not finite.

    Args:
        finite: [R] bool.
        first: number of the first of them.
        what: whose they are.

    Raises:
        DataError: one is not.
    """
    if not finite.all():
        row = first + int((~finite).nonzero()[0])
        raise DataError(f"row {row} of the {what} is NaN or infinite; was the model trained?")
