"""Directories that are in use, read-only, full or no directories."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.programs import ROOT, Programs, held
from tests.train.tiny import EVERYTHING, TINY, newest, read, rows, total, train
from vitx.errors import Preempted, StorageError

VITX = Path(sys.executable).with_name("vitx")
# What a start without training may take; a machine that is busy needs most of it for its imports.
AT_ONCE_S = 10.0


@pytest.fixture
def words(pictures: Path) -> tuple[str, ...]:
    return (*TINY, f"dataset.path={pictures}")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_directory_in_use_is_refused_at_once_and_its_holder_named(
    words: tuple[str, ...], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    with held(pictures / "val/ape/00.png") as somebody_waits:
        first = vitx("train", *words)
        first.reaches(somebody_waits, what="the first evaluation")
        before = contents(tmp_path / "run")
        started = time.monotonic()
        said = vitx.done("train", *words, code=8)
        assert time.monotonic() - started < AT_ONCE_S / 2
        assert f"is in use by process {first.pid} on {os.uname().nodename} since 20" in said
        assert contents(tmp_path / "run") == before
        assert first.running()
    assert first.wait() == 0


def test_the_lock_of_a_killed_process_is_taken_over(
    words: tuple[str, ...], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx("train", *words)
        program.reaches(somebody_waits, what="the first evaluation")
        program.signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    assert read(tmp_path / "run/.owner.json")["pid"] == program.pid
    assert read(tmp_path / "run/run.json")["status"] == "running"

    vitx.done("train", *words)

    assert read(tmp_path / "run/run.json")["status"] == "finished"
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(tmp_path / "run") == total(tmp_path / "whole")


def refused(*args: str) -> str:
    """Run `vitx train` without the right to write what modes forbid; return its one line."""
    # Root may write everywhere, unless it gives that right away.
    powers = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv to give its rights away")
    ended = subprocess.run(
        [*(prefix if os.geteuid() == 0 else []), VITX, "train", *args],
        capture_output=True,
        text=True,
        timeout=AT_ONCE_S,
        cwd=ROOT.parent,
        check=False,
    )
    assert ended.returncode == 4, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


def test_a_read_only_parent(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)

    line = refused(*words, f"run_dir={tmp_path}/shut/run")

    assert line == f"vitx train: {tmp_path}/shut/run can't be written: no permission to write"
    assert list((tmp_path / "shut").iterdir()) == []


@pytest.mark.slow
def test_a_read_only_run(words: tuple[str, ...], tmp_path: Path) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=2st")
    before = contents(tmp_path / "run")
    (tmp_path / "run").chmod(0o555)

    assert "no permission to write" in refused(*words)

    assert contents(tmp_path / "run") == before
    (tmp_path / "run").chmod(0o755)
    train(*words)


@pytest.mark.slow
def test_a_path_that_is_a_file_or_goes_through_one(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    for path in (tmp_path / "file", tmp_path / "file/run"):
        line = refused(*words, f"run_dir={path}")
        assert str(path) in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a run and two of its checkpoints, not for three."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=950k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / ".ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_disk_that_is_full_from_the_start(words: tuple[str, ...], small_disk: Path) -> None:
    (small_disk / "neighbour").write_text("mine")
    ballast = fill(small_disk)

    with pytest.raises(StorageError, match="the disk is full"):
        train(*words, f"run_dir={small_disk / 'run'}")

    ballast.unlink()
    assert contents(small_disk) == {"neighbour": b"mine"}


def test_a_disk_that_fills_while_training(
    words: tuple[str, ...], small_disk: Path, tmp_path: Path
) -> None:
    run_dir = small_disk / "run"
    words = (*words, *EVERYTHING, "checkpoint.every=2st")
    with pytest.raises(StorageError) as error:
        train(*words, f"run_dir={run_dir}")

    # 350 kB each: the third finds no room beside the first two, which pruning would have cut.
    assert error.value.exit_code == 4
    assert "step-00000006 can't be written" in str(error.value)
    assert sorted(path.name for path in (run_dir / "checkpoints").iterdir()) == [
        "step-00000002",
        "step-00000004",
    ]
    assert [row["step"] for row in rows(run_dir)] == [1, 2, 3, 4, 5, 6]
    shutil.copytree(run_dir, tmp_path / "run")  # to a disk with room
    train(*words, f"run_dir={tmp_path / 'run'}")
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(tmp_path / "run") == total(tmp_path / "whole")


def test_a_disk_without_room_for_a_row(words: tuple[str, ...], small_disk: Path) -> None:
    run_dir = small_disk / "run"
    words = (*words, "checkpoint.every=100ep")
    with pytest.raises(Preempted):
        train(*words, f"run_dir={run_dir}", "stop_at=2st")
    before = {file: file.read_bytes() for file in newest(run_dir).iterdir()}
    ballast = fill(small_disk)

    with pytest.raises(StorageError):
        train(*words, f"run_dir={run_dir}")

    ballast.unlink()
    assert {file: file.read_bytes() for file in newest(run_dir).iterdir()} == before
    train(*words, f"run_dir={run_dir}")
