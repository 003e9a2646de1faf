"""Training where stdout, memory or files are short: it is done, or says in one line what is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.programs import ROOT, Programs
from tests.train.tiny import TINY, read, total, train

VITX = Path(sys.executable).with_name("vitx")
FULL = "vitx train: stdout can't be written: No space left on device; all else is done\n"


@pytest.fixture
def words(pictures: Path, tmp_path: Path) -> tuple[str, ...]:
    return (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")


def in_shell(script: str, *words: str) -> tuple[int, str]:
    """Run `vitx train` by a line of shell; return its code and its complaint."""
    done = subprocess.run(
        ["sh", "-c", script, "sh", VITX, "train", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=110,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_stdout_costs_nothing_else(
    devices: int, words: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*words, f"runtime.devices={devices}")
    assert in_shell('exec "$@" >/dev/full', *words) == (4, FULL)

    assert read(tmp_path / "run/run.json")["status"] == "finished"
    assert "top-1" in (tmp_path / "run/log.txt").read_text()
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(tmp_path / "run") == total(tmp_path / "whole")


def test_files_that_may_not_be_written_at_all(words: tuple[str, ...]) -> None:
    code, said = in_shell('ulimit -f 0; exec "$@"', *words)

    assert (code, said.count("\n")) == (4, 1), said
    assert said.endswith("files may not grow as long here; type ulimit -f unlimited\n")


def test_too_little_memory_for_the_libraries(words: tuple[str, ...]) -> None:
    code, said = in_shell('ulimit -v 300000; exec "$@"', *words)

    assert (code, said.count("\n")) == (4, 1), said
    assert said.startswith("vitx train: out of memory (libtorch")
    assert said.endswith("; end other programs, or type ulimit -v unlimited\n")


def test_a_directory_where_a_file_is_needed(
    words: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    (tmp_path / "run/.owner.json").mkdir(parents=True)
    said = vitx.done("train", *words, code=4)

    assert said == (
        f"vitx train: {tmp_path}/run/.owner.json can't be written: a directory stands in its "
        "place; move it away\n"
    )
    (tmp_path / "run/.owner.json").rmdir()
    vitx.done("train", *words, "stop_at=1st", code=75)
    assert read(tmp_path / "run/run.json")["status"] == "preempted"
