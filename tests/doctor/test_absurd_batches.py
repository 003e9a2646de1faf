"""Batches that no data and no memory are enough for."""

from collections.abc import Callable, Iterator

import pytest

from tests.doctor.looking import plain
from vitx.config.schema import DatasetKind
from vitx.doctor.dataset import check_data
from vitx.doctor.findings import Finding
from vitx.doctor.loading import check_shared_memory
from vitx.doctor.machine import check_memory
from vitx.doctor.planned import Planned

Check = Callable[[Planned], Iterator[Finding]]


def found(check: Check, batch_size: int) -> list[Finding]:
    planned = plain()
    planned.config.dataset.kind = DatasetKind.digits
    planned.config.dataset.channels = 1
    planned.config.batch_size = batch_size
    return [*check(planned)]


@pytest.mark.parametrize("batch_size", [1438, 10**20])
def test_a_batch_of_more_pictures_than_there_are(batch_size: int) -> None:
    rows, batch = found(check_data, batch_size)

    assert (rows.grade.name, rows.text[:22]) == ("ok", "digits: 1437 to train ")
    assert (batch.grade.name, batch.code) == ("problem", 3)
    assert f"batch_size={batch_size} is more than the 1437 training samples" in batch.text
    assert len(found(check_data, 1437)) == 1


def test_a_batch_that_fits_into_no_memory() -> None:
    (finding,) = found(check_memory, 10**20)

    assert (finding.grade.name, finding.code) == ("problem", 2)
    assert "the pictures of a pass take" in finding.text
    assert finding.mend == "type a smaller batch_size or runtime.micro_batch"
    assert [each.grade.name for each in found(check_memory, 64)] == ["ok"]


def test_no_shared_memory_is_to_be_larger_than_memory() -> None:
    (finding,) = found(check_shared_memory, 10**20)

    assert finding.grade.name == "warning"
    assert finding.mend.startswith("type dataset.workers=0, or a smaller batch_size")
