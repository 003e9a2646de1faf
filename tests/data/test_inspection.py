"""Pictures are looked at before training, all of them or a sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.tiny import TINY, configure, write_pictures
from vitx.data.inspection import Inspection, inspect
from vitx.data.samples import BadRow
from vitx.data.sources import load_splits
from vitx.errors import DataError
from vitx.parts import bad_image_policy, make_decoder


def test_all_are_seen_where_there_is_time_and_few_where_there_is_none(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, train=10, val=1)
    (root / "train/bee/04.png").write_bytes(b"")
    config = configure(*TINY, f"dataset.path={root}").dataset
    decoder = make_decoder(config, load_splits(config).train)

    seen = inspect(decoder, seconds=60)
    assert (seen.rows, seen.seen, [bad.row for bad in seen.bad]) == (30, 30, [14])
    assert inspect(decoder, seconds=0).seen == 1


@pytest.mark.parametrize(
    ("skip", "bad", "seen", "rows", "problem"),
    [
        (False, 0, 10, 100, ""),
        (False, 1, 10, 100, "1 of 10 pictures of train can't be decoded"),
        (True, 1, 10, 100, "about 10 in all, more than the 5"),
        (True, 1, 20, 100, ""),  # five expected, five allowed
        (True, 6, 100, 100, "6 of 100 pictures of train can't be decoded"),
    ],
)
def test_what_is_said(
    skip: bool, bad: int, seen: int, rows: int, problem: str, tmp_path: Path
) -> None:
    config = configure(*TINY, f"dataset.path={write_pictures(tmp_path)}").dataset
    policy = bad_image_policy(config, load_splits(config).train)
    policy = replace(policy, skip=skip, limit=5)
    inspection = Inspection(
        rows=rows, seen=seen, bad=tuple(BadRow(row, "torn") for row in range(bad))
    )

    if not problem:
        inspection.raise_problem(policy)
        return
    with pytest.raises(DataError) as error:
        inspection.raise_problem(policy)
    assert problem in str(error.value)
    assert str(error.value).count("torn") == min(bad, 5)
