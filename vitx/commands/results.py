"""What an evaluation leaves: eval/<suite>.json, <suite>.parquet and lines for the user."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vitx.commands.report_lines import head_lines, result_line
from vitx.data.images import LabelledImages
from vitx.evaluate.loop import Judged
from vitx.evaluate.suites.suite import Part, Suite
from vitx.evaluate.summary import summarise
from vitx.files import storage_errors, write_json
from vitx.records import wilson_interval
from vitx.runs import RunDir

_Z = 1.959963984540054
_OF_A_PART = ("top1", "top1_interval", "top5", "loss", "ece", "signed_ece", "count", "skipped")


def conclude(
    suite: Suite, measured: Sequence[Judged], classes: Sequence[str], *, bins: int
) -> dict[str, Any]:
    """Return the numbers of a suite.

    Of a suite of several parts the accuracy is the mean of theirs; its interval is of the mean
    over pictures where all parts have the same ones, since they go wrong together.
    """
    each = [_numbers(suite, judged, classes, bins) for judged in measured]
    digest = {"samples": samples_digest(suite.parts, measured)}
    if len(each) == 1:
        return each[0] | digest
    told = [
        {**part.place, **{name: numbers[name] for name in _OF_A_PART if name in numbers}}
        for part, numbers in zip(suite.parts, each, strict=True)
    ]
    further = (
        suite.conclude([each.samples for each in measured]) if suite.conclude is not None else {}
    )
    return _mean_of_parts(measured) | digest | {"parts": told} | dict(further)


def samples_digest(parts: Sequence[Part], measured: Sequence[Judged]) -> str:
    """Return a sha256 that two results share exactly if they are of the same samples."""
    digest = hashlib.sha256()
    for part, judged in zip(parts, measured, strict=True):
        names = _names_of(part.images, judged)
        rows = (judged.samples.index.tolist(), names, judged.samples.label.tolist())
        digest.update(json.dumps([dict(part.place), *rows]).encode())
    return digest.hexdigest()


def write_results(
    run: RunDir, suite: Suite, measured: Sequence[Judged], numbers: Mapping[str, Any]
) -> None:
    """Write what was said of each sample, and the numbers.

    Raises:
        StorageError: it can't be written.
    """
    path = run.evaluations / f"{suite.name}.parquet"
    tables = [_table(part, judged) for part, judged in zip(suite.parts, measured, strict=True)]
    temporary = path.with_name(f".{path.name}")
    with storage_errors(run.evaluations):
        run.evaluations.mkdir(exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)
            pq.write_table(pa.concat_tables(tables), temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):  # how it went is not hidden by it
                temporary.unlink(missing_ok=True)
    write_json(run.evaluation(suite.name), dict(numbers))


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
    same = all(_same(measured[0].samples.index, each.samples.index) for each in measured)
    if same and numbers["count"] > 1:
        own = np.mean([judged.samples.correct for judged in measured], axis=0)
        half = _Z * float(own.std(ddof=1)) / math.sqrt(len(own))
        interval = [max(0.0, own.mean() - half), min(1.0, own.mean() + half)]
        numbers["top1_interval"] = [100 * float(end) for end in interval]
    else:  # nothing is known of what they have in common: all may be off at once
        ends = [
            wilson_interval(int(each.samples.correct.sum()), len(each.samples)) for each in measured
        ]
        numbers["top1_interval"] = [float(np.mean(end)) for end in zip(*ends, strict=True)]
    return numbers


def _same(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    return bool(np.array_equal(one, other))


def _table(part: Part, judged: Judged) -> pa.Table:
    samples = judged.samples
    columns: dict[str, Any] = {"index": samples.index, "name": _names_of(part.images, judged)}
    columns |= {name: [value] * len(samples) for name, value in part.place.items()}
    columns |= {
        name: getattr(samples, name)
        for name in ("label", "prediction", "correct", "rank", "confidence", "loss", "brier")
    }
    return pa.table(columns)


def _names_of(images: LabelledImages, judged: Judged) -> list[str]:
    names = images.file_names()
    return [names[row] for row in judged.samples.index]
