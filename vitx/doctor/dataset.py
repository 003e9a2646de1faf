"""Whether the dataset is there; `vitx check` looks at its pictures."""

from __future__ import annotations

from collections.abc import Iterator

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.doctor.findings import Finding, fine, problem
from vitx.doctor.planned import Planned, Unusable
from vitx.errors import DataError


def check_data(planned: Planned) -> Iterator[Finding]:
    """Find the dataset, count its rows, and look whether they make a batch."""
    planned.need("torch")
    planned.need("datasets")
    dataset = planned.config.dataset
    try:
        waiting = _to_download(dataset)
        splits = None if waiting else planned.splits
    except DataError as error:
        mend = "vitx train --help dataset says how it is named"
        yield problem("data", str(error), mend, error.exit_code)
        return
    if splits is None:
        yield fine("data", f"{waiting}, is downloaded first")
        return
    where = f" {dataset.path}" if dataset.path else ""
    yield fine(
        "data",
        f"{dataset.kind.name}{where}: {len(splits.train)} to train on, {len(splits.val)} to "
        f"measure, {len(splits.classes)} classes",
    )
    try:
        planned.need("timm")
    except Unusable:
        return  # told where libraries are looked at
    from vitx.parts import make_plan

    try:
        make_plan(planned.config, samples=len(splits.train))
    except DataError as error:
        yield problem("data", str(error), code=error.exit_code)


def _to_download(dataset: DatasetConfig) -> str:
    if dataset.kind is not DatasetKind.hub:
        return ""
    from vitx.data.hub import to_download

    return to_download(dataset)
