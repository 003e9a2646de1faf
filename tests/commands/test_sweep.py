"""`vitx train -m`: a directory for each job, one failure is one failure, a stop is for all."""

import os
import signal
from pathlib import Path

import pytest

from tests.train.programs import Programs, held
from tests.train.tiny import EVERYTHING, TINY, read, total, train


@pytest.fixture
def words(pictures: Path) -> tuple[str, ...]:
    return ("train", "-m", *TINY, *EVERYTHING, f"dataset.path={pictures}")


def jobs(folder: Path) -> dict[str, Path]:
    """Return the run directories of the one sweep there is, by name."""
    (sweep,) = (folder / "runs/sweeps").iterdir()
    assert [path.name for path in (folder / "runs").iterdir()] == ["sweeps"]
    return {path.name: path for path in sorted(sweep.iterdir()) if path.is_dir()}


def test_each_job_is_the_run_it_would_be_alone(
    words: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    said = vitx.done(*words, "seed=0,1", "model.dropout=0.1")

    found = jobs(tmp_path)
    assert list(found) == ["0-seed=0", "1-seed=1"]
    assert "sweep of 2 jobs" in said
    for seed, run_dir in enumerate(found.values()):
        assert read(run_dir / "run.json")["status"] == "finished"
        alone = tmp_path / f"alone-{seed}"
        train(*words[2:], f"seed={seed}", "model.dropout=0.1", f"run_dir={alone}")
        assert total(run_dir) == total(alone)
    assert total(found["0-seed=0"]) != total(found["1-seed=1"])


def test_a_failing_job_costs_nobody_else(
    words: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    said = vitx.done(*words, "batch_size=8,64,16", "epochs=1st", code=7)

    found = jobs(tmp_path)
    assert list(found) == ["0-batch_size=8", "2-batch_size=16"]
    assert {read(path / "run.json")["status"] for path in found.values()} == {"finished"}
    assert "job 1 (batch_size=64) failed: batch_size=64 is more than the 48" in said
    assert said.splitlines()[-1] == "vitx train: 1 of 3 jobs failed"
    assert "Traceback" not in said


def test_each_job_stops_where_it_is_told_to(
    words: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    said = vitx.done(*words, "seed=0,1", "stop_at=2st", code=75)

    found = jobs(tmp_path)
    assert list(found) == ["0-seed=0", "1-seed=1"]
    assert {read(path / "run.json")["status"] for path in found.values()} == {"preempted"}
    assert "1  seed=1  stopped by stop_at=2st after step 2 of 12" in said
    assert "failed" not in said


@pytest.mark.parametrize("word", ["name=x", "run_dir=x"])
def test_a_name_for_all_jobs_is_refused(word: str, words: tuple[str, ...], vitx: Programs) -> None:
    said = vitx.done(*words, "seed=0,1", word, code=7)
    assert f"{word}: " in said
    assert "leave it out" in said


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow)],
)
def test_a_stop_is_for_all_jobs(
    number: int,
    code: int,
    words: tuple[str, ...],
    pictures: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx(*words, "seed=0,1,2")
        program.reaches(somebody_waits, what="the first evaluation")
        program.signal(number)
    assert program.wait() == code, program.text

    assert "1  seed=1  not begun" in program.text
    found = jobs(tmp_path)
    assert list(found) == ["0-seed=0"]
    assert read(found["0-seed=0"] / "run.json")["status"] == "preempted"
    vitx.done("train", f"resume={found['0-seed=0']}")
    train(*words[2:], f"run_dir={tmp_path / 'alone'}")
    assert total(found["0-seed=0"]) == total(tmp_path / "alone")


def test_a_job_that_is_killed_costs_nobody_else(
    words: tuple[str, ...], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx(*words, "seed=0,1")
        program.reaches(somebody_waits, what="the evaluation of the first job")
        (job,) = program.session() - {program.pid}
        os.kill(job, signal.SIGKILL)
    assert program.wait() == 7, program.text

    first, second = jobs(tmp_path).values()
    assert f"process {job} was ended by SIGKILL" in program.text
    assert read(second / "run.json")["status"] == "finished"
    train(*words[2:], "seed=0", f"run_dir={first}")  # goes on
    train(*words[2:], "seed=0", f"run_dir={tmp_path / 'alone'}")
    assert total(first) == total(tmp_path / "alone")
