"""Whether the dataset is there; `vitx check` looks at its pictures."""

from __future__ import annotations

from collections.abc import Iterator

from vitx.config.schema import DatasetKind
from vitx.doctor.findings import Finding, fine
from vitx.doctor.planned import Planned


def check_data(planned: Planned) -> Iterator[Finding]:
    """Find the dataset and count its rows."""
    planned.need("torch")
    planned.need("datasets")
    dataset = planned.config.dataset
    if dataset.kind is DatasetKind.hub:
        from vitx.data.hub import to_download

        if waiting := to_download(dataset):
            yield fine("data", f"{waiting}, is downloaded first")
            return
    splits = planned.splits
    where = f" {dataset.path}" if dataset.path else ""
    yield fine(
        "data",
        f"{dataset.kind.name}{where}: {len(splits.train)} to train on, {len(splits.val)} to "
        f"measure, {len(splits.classes)} classes",
    )
