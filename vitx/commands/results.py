"""What an evaluation leaves: eval/<suite>.json, <suite>.parquet and lines for the user."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitx.commands.report_lines import head_lines, result_line
from vitx.evaluate.loop import Judged
from vitx.evaluate.suites.suite import Suite
from vitx.evaluate.summary import mean_interval, summarise
from vitx.files import storage_errors, write_bytes, write_json
from vitx.records import wilson_interval
from vitx.runs import RunDir

_OF_A_PART = ("top1", "top1_interval", "top5", "loss", "ece", "signed_ece", "count", "skipped")


def conclude(
    suite: Suite, measured: Sequence[Judged], classes: Sequence[str], *, bins: int
) -> dict[str, Any]:
    """Return the numbers of a suite.

    Of a suite of several parts the accuracy is the mean of theirs; its interval is of the mean
    over pictures where all parts have the same ones, since they go wrong together.
    """
    each = [_numbers(suite, judged, classes, bins) for judged in measured]
    if len(each) == 1:
        return each[0]
    told = [
        {**part.place, **{name: numbers[name] for name in _OF_A_PART if name in numbers}}
        for part, numbers in zip(suite.parts, each, strict=True)
    ]
    further = (
        suite.conclude([each.samples for each in measured]) if suite.conclude is not None else {}
    )
    return _mean_of_parts(measured) | {"parts": told} | dict(further)


def table_of(suite: Suite, measured: Sequence[Judged]) -> pa.Table:
    """Return what was said of each sample of a suite, part after part."""
    splits = {id(part.images): part.images for part in suite.parts}  # many parts may show one
    names = {key: images.file_names() for key, images in splits.items()}
    tables = []
    for part, judged in zip(suite.parts, measured, strict=True):
        samples, known = judged.samples, names[id(part.images)]
        columns = {"index": samples.index, "name": [known[row] for row in samples.index]}
        columns |= {name: [value] * len(samples) for name, value in part.place.items()}
        columns |= {each.name: getattr(samples, each.name) for each in fields(samples)[1:]}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def samples_digest(suite: Suite, table: pa.Table) -> str:
    """Return a sha256 that two results share exactly if they are of the same samples."""
    columns = ["index", "name", *suite.parts[0].place, "label"]
    return hashlib.sha256(json.dumps(table.select(columns).to_pydict()).encode()).hexdigest()


def write_results(run: RunDir, name: str, table: pa.Table, numbers: Mapping[str, Any]) -> None:
    """Write what was said of each sample, and the numbers.

    Raises:
        StorageError: it can't be written.
    """
    with storage_errors(run.evaluations):
        run.evaluations.mkdir(exist_ok=True)
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    write_bytes(run.evaluations / f"{name}.parquet", file.getvalue())
    write_json(run.evaluation(name), dict(numbers))


def result_lines(suite: Suite, numbers: dict[str, Any]) -> Iterator[str]:
    """Say what a suite came to."""
    if "parts" in numbers:
        yield from _part_lines(numbers)
        return
    if suite.several_labels:
        low, high = numbers["top1_interval"]
        yield (
            f"top-1 {numbers['top1']:.2f} % (95 % interval {low:.2f} to {high:.2f}), top-5 "
            f"{numbers['top5']:.2f} % on {numbers['count']} pictures, any of its labels right"
        )
    else:
        yield result_line(numbers)
        low, high = numbers["mean_per_class_interval"]
        yield f"mean per class {numbers['mean_per_class']:.2f} % ({low:.2f} to {high:.2f})"
    if "signed_ece" in numbers:
        yield _calibration_line(numbers)
    if numbers["skipped"]:
        yield f"{numbers['skipped']} pictures could not be decoded and are not counted"
    yield from head_lines(numbers)


def _calibration_line(numbers: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in numbers["signed_ece_interval"])
    over = 100 * numbers["signed_ece"]
    return (
        f"calibration: confidence - accuracy {over:+.2f} points ({low:+.2f} to {high:+.2f}), ECE "
        f"{100 * numbers['ece']:.2f} % in {numbers['bins']} bins; of a calibrated model it would "
        f"be below {100 * numbers['ece_if_calibrated']:.2f} %"
    )


def _part_lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    for part in numbers["parts"]:
        place = "  ".join(str(part[name]) for name in part if name not in _OF_A_PART)
        low, high = part["top1_interval"]
        yield f"{place:>24}  top-1 {part['top1']:6.2f} % ({low:.2f} to {high:.2f})"
    low, high = numbers["top1_interval"]
    yield f"{'mean':>24}  top-1 {numbers['top1']:6.2f} % ({low:.2f} to {high:.2f})"


def _numbers(suite: Suite, judged: Judged, classes: Sequence[str], bins: int) -> dict[str, Any]:
    numbers = summarise(judged.samples, classes, several_labels=suite.several_labels, bins=bins) | {
        "skipped": len(judged.bad)
    }
    if judged.heads:
        numbers["heads"] = {name: each.as_dict() for name, each in judged.result().heads.items()}
    return numbers


def _mean_of_parts(measured: Sequence[Judged]) -> dict[str, Any]:
    shares = [judged.samples.correct.mean() for judged in measured]
    numbers: dict[str, Any] = {
        "top1": 100 * math.fsum(shares) / len(shares),
        "count": min(len(judged.samples) for judged in measured),
        "skipped": sum(len(judged.bad) for judged in measured),
    }
    rows = [judged.samples.index for judged in measured]
    if all(np.array_equal(rows[0], each) for each in rows):
        own = np.mean([judged.samples.correct for judged in measured], axis=0)
        interval = mean_interval(own) or [0.0, 1.0]
        numbers["top1_interval"] = [100 * min(1.0, max(0.0, end)) for end in interval]
    else:  # nothing is known of what they have in common: all may be off at once
        ends = [
            wilson_interval(int(each.samples.correct.sum()), len(each.samples)) for each in measured
        ]
        numbers["top1_interval"] = [float(np.mean(end)) for end in zip(*ends, strict=True)]
    return numbers
