"""Rows of metrics: what they hold and over which steps they are means."""

from pathlib import Path

import pytest

from tests.train.tiny import EVERYTHING, STEPS, TINY, rows, train
from vitx.errors import Preempted


@pytest.fixture(scope="module")
def every_step(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("every_step") / "run"
    train(*TINY, *EVERYTHING, f"dataset.path={pictures}", f"run_dir={run_dir}")
    return run_dir


def test_a_row_is_the_mean_since_the_last_one(
    every_step: Path, pictures: Path, tmp_path: Path
) -> None:
    # 5 does not divide 12: rows at 5 and 10, at 6 and 12 because of the evaluations there.
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    train(*words, "logger.every=5st")

    single = rows(every_step)
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [5, 6, 10, 12]
    for row, (start, end) in zip(found, [(0, 5), (5, 6), (6, 10), (10, 12)], strict=True):
        for name in ("train/loss", "train/grad_norm"):
            values = [each[name] for each in single[start:end]]
            assert row[name] == pytest.approx(sum(values) / len(values), rel=1e-6)
        assert row["train/lr"] == single[end - 1]["train/lr"]


def test_counters_of_a_row(every_step: Path) -> None:
    for number, row in enumerate(rows(every_step), start=1):
        assert (row["step"], row["samples"]) == (number, 8 * number)
        assert row["epoch"] == number / 6
        assert 0 <= row["train/data_wait"] <= 1
    seconds = [row["seconds"] for row in rows(every_step)]
    assert seconds == sorted(seconds)
    assert len(seconds) == STEPS


@pytest.mark.parametrize("stops", [(), (5,)], ids=str)
def test_speed_is_that_of_the_steps_since_the_last_row(
    stops: tuple[int, ...], pictures: Path, tmp_path: Path
) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    for stop in stops:
        with pytest.raises(Preempted):
            train(*words, f"stop_at={stop}st")
    train(*words)

    samples, seconds = 0, 0.0
    for row in rows(tmp_path / "run"):
        speed = (row["samples"] - samples) / (row["seconds"] - seconds)
        assert row["train/images_per_second"] == pytest.approx(speed), row["step"]
        samples, seconds = row["samples"], row["seconds"]
