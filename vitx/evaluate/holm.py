"""Several tests at once: p-values that hold for all of them together."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values so that one error among all tests is as improbable as one of them says.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979). It asks nothing of how the tests
    depend on each other, and corrects less than Bonferroni's.

    Args:
        p_values: of a family of tests.

    Returns:
        As many, in the same order, none smaller than it was.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[place]))
        corrected[place] = largest
    return corrected
