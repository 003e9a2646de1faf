"""What a reader of a dataset hands over: splits as found, their labels not yet scanned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from vitx.config.schema import DatasetConfig
from vitx.errors import DataError, near_matches
from vitx.escapes import visible_line

if TYPE_CHECKING:
    import datasets

VAL_SPLITS = ("val", "validation", "valid", "test")
"""Names of a validation split, in the order they are looked for."""


@dataclass(frozen=True, kw_only=True)
class FoundSplit:
    """One split of N rows.

    Attributes:
        name: the split's name in the dataset.
        data: its columns, pictures encoded as `{bytes, path}`.
        image_column: the column of pictures.
        labels: [N] labels, class numbers or class names.
        where: where the labels are, for errors.
        names: names of the class numbers, or None.
    """

    name: str
    data: datasets.Dataset
    image_column: str
    labels: pa.ChunkedArray
    where: str
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """A dataset as it was found; `notes` are lines the user should read."""

    train: FoundSplit | None
    val: FoundSplit | None
    notes: list[str] = field(default_factory=list)

    @property
    def wanted_val(self) -> FoundSplit:
        """The validation split, of a reader that was asked for it alone."""
        if self.val is None:
            raise AssertionError("a reader returns the split it was asked for")
        return self.val


def choose_train(
    available: Iterable[str], config: DatasetConfig, *, where: str, noun: str = "split"
) -> str:
    """Return the name of the training split.

    Args:
        available: the splits there are.
        config: names the split.
        where: the dataset, for the error.
        noun: what a split is, for the error.

    Raises:
        DataError: there is no such split.
    """
    return _existing(config.train_split, available, "train_split", where, noun)


def choose_val(
    available: Iterable[str],
    config: DatasetConfig,
    *,
    where: str,
    alone: bool,
    noun: str = "split",
) -> str | None:
    """Return the name of the validation split, or None where a hold-out has to do.

    Args:
        available: the splits there are.
        config: may name the split.
        where: the dataset, for the error.
        alone: no training split is wanted, so the only split of a dataset will do, whatever
            its name, and there is always one.
        noun: what a split is, for the error.

    Raises:
        DataError: there is no such split; or, if `alone`, none that can be told.
    """
    known = sorted(available)
    if config.val_split is not None:
        return _existing(config.val_split, known, "val_split", where, noun)
    for name in VAL_SPLITS:
        if name in known and (alone or name != config.train_split):
            return name
    if not alone:
        return None
    if len(known) == 1:
        return known[0]
    raise DataError(
        f"{where}: expected a {noun} {' or '.join(VAL_SPLITS)}, found {listed(known)}; "
        "set dataset.val_split"
    )


def listed(names: Sequence[str], shown: int = 10) -> str:
    """Return names as a line of text, the first `shown` of them and how many there are.

    What a terminal would obey is written out.

    Args:
        names: what to list.
        shown: how many at most.

    Returns:
        The names with commas between, or `none`.

    >>> listed(["a", "b", "c"], shown=2)
    'a, b, ... (3 in all)'
    """
    if not names:
        return "none"
    more = f", ... ({len(names)} in all)" if len(names) > shown else ""
    return ", ".join(map(visible_line, names[:shown])) + more


def _existing(name: str, available: Iterable[str], setting: str, where: str, noun: str) -> str:
    known = sorted(available)
    if name in known:
        return name
    raise DataError(
        f"{where}: expected a {noun} {name!r}, found {listed(known)}{near_matches(name, known)}; "
        f"dataset.{setting} names it"
    )
