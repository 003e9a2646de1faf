"""Stored results, sample by sample: reading them, and whether two are of the same samples."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitx.errors import StorageError, UsageError
from vitx.escapes import visible_line
from vitx.files import read_json
from vitx.foreign_run import as_written
from vitx.runs import RunDir

_NEEDED = ("index", "label", "prediction")
_MORE = ("name", "correct", "loss")  # older results lack them
_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "index": pa.types.is_integer,
    "label": pa.types.is_integer,
    "prediction": pa.types.is_integer,
    "correct": pa.types.is_boolean,
    "loss": pa.types.is_floating,
    "name": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}
_MOST_NAMED = 3  # rows, in a refusal


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What one run said of each sample of a suite: [N] arrays in the order of the split.

    Attributes:
        run: the run directory.
        suite: name of the result.
        numbers: what stands in its JSON.
        classes: the names of the classes; None where the run does not tell.
        index: row in the split.
        label: class number.
        prediction: class number.
        correct: whether the prediction is right.
        loss: negative log-likelihood of the label in nats; None in older results.
        name: file name of the sample; None in older results.
    """

    run: Path
    suite: str
    numbers: Mapping[str, Any]
    classes: tuple[str, ...] | None
    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    correct: np.ndarray
    loss: np.ndarray | None
    name: np.ndarray | None

    def __len__(self) -> int:
        return len(self.index)

    def class_name(self, number: int) -> str:
        """Return what a class is called, as one line."""
        return str(number) if self.classes is None else visible_line(self.classes[number])


def load(run: RunDir, suite: str) -> Stored:
    """Read a result of a run.

    Args:
        run: its directory.
        suite: name of the result.

    Returns:
        The result.

    Raises:
        UsageError: the run has no such result, or it has several parts.
        StorageError: it is damaged.
    """
    file = run.evaluation(suite)
    table_file = file.with_suffix(".parquet")
    if not file.is_file() or not table_file.is_file():
        raise UsageError(_missing(run, suite))
    numbers = read_json(file)
    if parts := numbers.get("parts"):
        raise UsageError(
            f"suite={suite}: {len(parts)} results on the same pictures, and a comparison takes one"
        )
    columns = _columns(table_file)
    classes = run.read_record().get("classes") if run.record.is_file() else None
    stored = Stored(
        run=run.path,
        suite=suite,
        numbers=numbers,
        classes=None if classes is None else tuple(classes),
        **columns,
    )
    _check(stored, file, table_file)
    return stored


def refuse_other_samples(first: Stored, other: Stored) -> None:
    """Refuse to compare results of different samples, or of models of different classes.

    Raises:
        UsageError: they are; how many samples differ, and which the first of them are.
    """
    pair = f"{first.run} and {other.run}"
    if first.classes and other.classes and first.classes != other.classes:
        raise UsageError(f"{pair} have different classes: {_class_difference(first, other)}")
    if len(first) != len(other) or not np.array_equal(first.index, other.index):
        alone = np.setxor1d(first.index, other.index)
        union = np.union1d(first.index, other.index)
        raise UsageError(
            f"{pair} were evaluated on different samples: {len(first)} and {len(other)} rows, "
            f"{len(alone)} of {len(union)} in one of them alone (row {_first(alone)}); "
            f"{_again(other)}"
        )
    for what in ("label", "name"):
        one, two = getattr(first, what), getattr(other, what)
        if one is None or two is None:
            continue
        if len(places := np.flatnonzero(one != two)):
            shown = ", ".join(
                f"row {first.index[at]}: {_told(first, what, one[at])} and "
                f"{_told(other, what, two[at])}"
                for at in places[:_MOST_NAMED]
            )
            more = ", ..." if len(places) > _MOST_NAMED else ""
            raise UsageError(
                f"{pair} were evaluated on different samples: {len(places)} of {len(first)} have "
                f"another {what} ({shown}{more}); {_again(other)}"
            )
    digests = [stored.numbers.get("samples") for stored in (first, other)]
    if None not in digests and digests[0] != digests[1]:
        raise UsageError(
            f"{pair} say that they were evaluated on different samples ({digests[0]!s:.12} and "
            f"{digests[1]!s:.12}), though the rows of both are the same; {_again(other)}"
        )


def _missing(run: RunDir, suite: str) -> str:
    found = sorted(file.stem for file in run.evaluations.glob("*.json"))
    known = [name for name in found if run.evaluations.joinpath(f"{name}.parquet").is_file()]
    has = f"it has {', '.join(map(visible_line, known))}" if known else "it has none"
    return f"{run.path} has no result {suite!r}, {has}; type {_command(run.path, suite)}"


def _command(run: Path, suite: str) -> str:
    named = "" if suite == "val" else f" suite={shlex.quote(suite)}"
    return f"vitx eval run={shlex.quote(str(run))}{named}"


def _again(stored: Stored) -> str:
    return f"type {_command(stored.run, stored.suite)} on the samples of the first"


def _columns(file: Path) -> dict[str, Any]:
    """Return the columns as arrays, in the order of the split.

    Raises:
        StorageError: the file can't be read, or holds something else than vitx writes.
    """
    try:
        parquet = pq.ParquetFile(file)
        with parquet:
            there = parquet.schema_arrow.names
            table = parquet.read([name for name in (*_NEEDED, *_MORE) if name in there])
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{file} can't be read: {reason}") from error
    with as_written(file):
        columns = _arrays(table)
    order = np.argsort(columns["index"], kind="stable")
    return {name: None if each is None else each[order] for name, each in columns.items()}


def _arrays(table: pa.Table) -> dict[str, Any]:
    """Return columns as arrays; one of another kind than vitx writes is a TypeError or so."""
    columns: dict[str, Any] = dict.fromkeys((*_NEEDED, *_MORE))
    for name in _NEEDED:
        table.schema.field(name)  # a KeyError where there is none
    for name in table.column_names:
        column = table.column(name)
        if not _KINDS[name](column.type) or column.null_count:
            raise TypeError(f"{name} is {column.type} with {column.null_count} nulls")
        columns[name] = column.to_numpy()
    if not table.num_rows:
        raise ValueError("it has no row")
    if len(np.unique(columns["index"])) < table.num_rows:
        raise ValueError("a row of the split is there twice")
    if columns["correct"] is None:
        columns["correct"] = columns["label"] == columns["prediction"]
    return columns


def _check(stored: Stored, file: Path, table_file: Path) -> None:
    """Compare the columns with the numbers beside them.

    Raises:
        StorageError: they are not of one evaluation, or name classes that there are none of.
    """
    with as_written(table_file):
        _check_classes(stored)
    with as_written(file):
        count, right = _counted(stored)
    if count != len(stored) or right != int(stored.correct.sum()):
        raise StorageError(
            f"{file} and {table_file.name} are not of the same evaluation: {count} samples, "
            f"{right} right, and {len(stored)}, {int(stored.correct.sum())} right; type "
            f"{_command(stored.run, stored.suite)}"
        )


def _check_classes(stored: Stored) -> None:
    numbers = np.concatenate([stored.label, stored.prediction])
    if numbers.min() < 0 or (stored.classes and numbers.max() >= len(stored.classes)):
        raise ValueError("a class number is none of the run's classes")


def _counted(stored: Stored) -> tuple[int, int]:
    """Return the numbers of samples and of right answers that stand in the JSON."""
    samples = stored.numbers.get("samples")
    if samples is not None and not isinstance(samples, str):
        raise TypeError(f"samples is {samples!r:.40}")
    count = int(stored.numbers["count"])
    return count, round(float(stored.numbers["top1"]) * count / 100)


def _class_difference(first: Stored, other: Stored) -> str:
    one, two = first.classes or (), other.classes or ()
    if len(one) != len(two):
        return f"{len(one)} and {len(two)}"
    places = [at for at in range(len(one)) if one[at] != two[at]]
    at = places[0]
    return (
        f"{len(places)} of {len(one)}, the first number {at}, {first.class_name(at)!r} and "
        f"{other.class_name(at)!r}"
    )


def _first(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:_MOST_NAMED])) + (", ..." if len(rows) > _MOST_NAMED else "")


def _told(stored: Stored, what: str, value: Any) -> str:
    return repr(stored.class_name(int(value)) if what == "label" else visible_line(str(value)))
