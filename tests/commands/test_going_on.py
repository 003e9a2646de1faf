"""What a run that ended early needs in order to go on, and what it can do without."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.programs import ROOT, Programs, held, until
from tests.train.tiny import LOADERS_FORK, TINY, evaluate, newest, read, rows, total, train
from vitx.config.resolve import load_yaml
from vitx.config.schema import TrainConfig
from vitx.errors import DataError, Preempted, StorageError

pytestmark = LOADERS_FORK


@pytest.fixture
def copy(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "copy"))


def test_a_killed_session_leaves_what_the_next_one_compares(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("train", *TINY, f"dataset.path={pictures}", f"run_dir={run_dir}")
        program.reaches(somebody_waits, what="the first evaluation")
        program.signal(signal.SIGKILL)
    program.wait()

    record = read(run_dir / "run.json")
    assert record["status"] == "running"
    assert record["data"]
    assert record["classes"] == ["ape", "bee", "cow"]
    assert record["environment"]["threads"] == 1


def test_a_bad_picture_met_late_is_no_dead_end(copy: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = (*TINY, f"dataset.path={copy}", f"run_dir={run_dir}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=3st")
    for file in (copy / "train/ape").glob("0*.png"):  # damaged, and of the size they had
        file.write_bytes(b"junk".ljust(file.stat().st_size))
    with pytest.raises(DataError, match=r"go on with dataset\.bad_image=skip"):
        train(*words)

    skip = ("dataset.bad_image=skip", "dataset.bad_image_limit=0.5")
    train(*words, *skip)

    assert read(run_dir / "result.json")["train_skipped"] > 0
    assert [row["step"] for row in rows(run_dir)] == list(range(1, 13))
    assert load_yaml(run_dir / "config.yaml", TrainConfig).dataset.bad_image.name == "skip"


def test_checkpoints_outlive_a_bad_picture_before_the_first_row(copy: Path, tmp_path: Path) -> None:
    last = copy / "val/cow/06.png"
    last.write_bytes(b"junk")
    words = (*TINY, f"dataset.path={copy}", f"run_dir={tmp_path / 'run'}", "logger.every=100ep")
    with pytest.raises(DataError, match="cow/06"):
        train(*words, "checkpoint.every=2st", "evaluation.every=5st")

    assert newest(tmp_path / "run").name == "step-00000004"


def test_a_stop_that_is_not_ahead_is_said(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", "stop_at=2st")
    with pytest.raises(Preempted):
        train(*words)
    assert "is not ahead" not in capsys.readouterr().out
    train(*words)
    assert "stop_at=2st is not ahead" in capsys.readouterr().out


def test_data_that_moved_are_the_same_data(pictures: Path, copy: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(Preempted):
        train(*TINY, f"dataset.path={pictures}", f"run_dir={run_dir}", "stop_at=7st")
    train(f"resume={run_dir}", f"dataset.path={copy}")

    train(*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'whole'}")
    assert total(run_dir) == total(tmp_path / "whole")
    assert load_yaml(run_dir / "config.yaml", TrainConfig).dataset.path == str(copy)


def test_evaluation_needs_no_training_data(copy: Path, pictures: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(*TINY, f"dataset.path={copy}", f"run_dir={run_dir}", "epochs=2st")
    shutil.rmtree(copy)

    evaluate(f"run={run_dir}", "suite=[again]", "dataset=folder", f"dataset.path={pictures}")

    recorded, again = read(run_dir / "result.json"), read(run_dir / "eval/again.json")
    assert (again["top1"], again["loss"]) == (recorded["top1"], recorded["loss"])


def test_weights_to_start_from_are_needed_once(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "epochs=4st")
    train(*words, f"run_dir={tmp_path / 'first'}", "seed=1")
    second = (*words, f"run_dir={tmp_path / 'second'}", f"model.weights={tmp_path / 'first'}")
    with pytest.raises(Preempted):
        train(*second, "stop_at=2st")
    shutil.rmtree(tmp_path / "first")

    train(*second)


def test_weights_of_a_damaged_checkpoint_are_refused(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "epochs=2st")
    train(*words, f"run_dir={tmp_path / 'first'}")
    file = newest(tmp_path / "first") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")

    for weights in (file, file.parent, tmp_path / "first"):
        with pytest.raises(StorageError, match="damaged: model.safetensors has other content"):
            train(*words, f"run_dir={tmp_path / 'second'}", f"model.weights={weights}")
    assert not (tmp_path / "second").exists()


def test_a_reader_that_goes_away_does_not_end_the_training(pictures: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = [*TINY, f"dataset.path={pictures}", f"run_dir={run_dir}"]
    training = subprocess.Popen(
        [sys.executable, "-m", "vitx", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert training.stdout is not None
    training.stdout.readline()
    training.stdout.close()
    assert training.stderr is not None
    assert training.stderr.read() == b""
    assert training.wait(60) == 0
    training.stderr.close()

    assert (run_dir / "result.json").exists()
    assert "epoch 2/2" in (run_dir / "log.txt").read_text()


def test_a_terminal_that_goes_away_stops_the_run_well(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "dataset.workers=1")
    whole = [sys.executable, "-m", "vitx", "train", *words, f"run_dir={tmp_path / 'run'}"]
    with held(pictures / "val/cow/06.png") as somebody_waits:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
            os.execv(sys.executable, whole)  # noqa: S606
        until(somebody_waits, what="the first evaluation")
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75

    assert newest(tmp_path / "run").name == "step-00000006"
    train(*words, f"run_dir={tmp_path / 'run'}")
    train(*words, f"run_dir={tmp_path / 'alone'}")
    assert total(tmp_path / "run") == total(tmp_path / "alone")


def test_two_signals_at_once_are_one_request(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    """As `timeout` sends them: to the process, then to its group."""
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("train", *TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
        program.reaches(somebody_waits, what="the first evaluation")
        program.signal(signal.SIGTERM)
        time.sleep(0.01)
        program.signal_group(signal.SIGTERM)
    assert program.wait() == 75

    assert newest(tmp_path / "run").name == "step-00000006"
