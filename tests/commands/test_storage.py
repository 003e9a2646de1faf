"""Directories that are in use, read-only, full or no directories."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.train.programs import ROOT, Program, Programs, held, until
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
    """A file system with room for a run and four of its checkpoints, not for five."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)]
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


def test_a_run_whose_checkpoints_find_no_room_is_not_begun(
    words: tuple[str, ...], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*words, *EVERYTHING, f"run_dir={small_disk / 'run'}", "checkpoint.every=1st")
    with pytest.raises(StorageError, match=r"checkpoints need 0\.00144 GiB and .* free"):
        train(*words, "checkpoint.keep=3")  # 320 kB each: three, the best one and the next

    assert contents(small_disk) == {}
    assert "epoch" not in capsys.readouterr().out
    train(*words)
    assert len(list((small_disk / "run/checkpoints").iterdir())) in (2, 3)
    (small_disk / "run/result.json").unlink()
    train(*words, "checkpoint.keep=3")  # nothing is ahead of it that needs room


def test_files_that_may_not_be_as_large_are_refused_before(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, before[1]))
    try:
        with pytest.raises(StorageError, match=r"optimizer\.safetensors needs .*ulimit -f"):
            train(*words, f"run_dir={tmp_path / 'run'}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list(tmp_path.iterdir()) == []


def filled(program: Program, disk: Path) -> Callable[[], object]:
    """Fill a disk; return what ends that."""
    return fill(disk).unlink


def limited(program: Program, disk: Path) -> Callable[[], object]:
    """Let no file of a program become as large as its optimizer's."""
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (10**5, resource.RLIM_INFINITY))
    return lambda: None  # it was only for that process


def read_only(program: Program, disk: Path) -> Callable[[], object]:
    """Let nothing be written to a disk."""
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,bind,rw", str(disk)], check=True)


@pytest.mark.parametrize(
    ("shortage", "reason"),
    [
        (filled, "0 MB are free"),
        (limited, "File too large"),
        (read_only, "the file system is read-only"),
    ],
)
def test_checkpoints_that_can_not_be_written_while_training(
    shortage: Callable[[Program, Path], Callable[[], object]],
    reason: str,
    words: tuple[str, ...],
    pictures: Path,
    small_disk: Path,
    vitx: Programs,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run_dir = tmp_path / "run"
    words = (*words, *EVERYTHING, "checkpoint.every=2st", "evaluation.every=4st", "epochs=4ep")
    with pytest.raises(Preempted):
        train(*words, f"run_dir={run_dir}", "stop_at=3st")
    saved = run_dir / "checkpoints"
    shutil.copytree(saved, small_disk, dirs_exist_ok=True)
    subprocess.run(["mount", "--bind", str(small_disk), str(saved)], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", str(saved)], check=True))
    before = contents(saved)

    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx("train", *words, f"run_dir={run_dir}")
        program.reaches(somebody_waits, what="the evaluation after step 4")
        # A deleted file that is still mapped into memory would keep its room on the disk.
        assert ".safetensors" not in Path(f"/proc/{program.pid}/maps").read_text()
        relieve = shortage(program, saved)
    assert program.wait() == 4
    relieve()

    said = program.text
    assert said.count("warning: ") == 2
    assert said.count(f"{reason}") == 3
    assert "step-00000004 can't be written" in said
    assert "kept: step-00000002, step-00000003; training goes on" in said
    assert "vitx train: 3 checkpoints in a row were missed, kept: step-00000002, step-0" in said
    assert contents(saved) == before
    steps = [row["step"] for row in rows(run_dir)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 8
    assert read(run_dir / "run.json")["exit_code"] == 4
    vitx.done("train", *words, f"run_dir={run_dir}")
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(run_dir) == total(tmp_path / "whole")


@pytest.mark.parametrize("relieved", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_last_checkpoint_is_tried_again(
    relieved: bool,
    words: tuple[str, ...],
    pictures: Path,
    small_disk: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    run_dir = small_disk / "run"
    words = (*words, "checkpoint.every=8st", "evaluation.every=100ep")
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx("train", *words, f"run_dir={run_dir}")
        program.reaches(somebody_waits, what="the evaluation after the last step")
        before = contents(run_dir / "checkpoints")
        ballast = fill(small_disk)  # the last row finds no room either
    until(lambda: "trying again in 1 s" in program.text, what="a first miss")
    if relieved:
        ballast.unlink()
    assert program.wait() == (0 if relieved else 4)

    if not relieved:
        assert "trying again in 4 s" in program.text
        assert contents(run_dir / "checkpoints") == before
        ballast.unlink()
        vitx.done("train", *words, f"run_dir={run_dir}")
    assert [row["step"] for row in rows(run_dir)] == list(range(1, 13))
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(run_dir) == total(tmp_path / "whole")


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
