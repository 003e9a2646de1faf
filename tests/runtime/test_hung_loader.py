"""A loader process that hangs ends the run in time, with its code, and hangs nobody else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.programs import held, live_processes, until
from tests.train.tiny import TINY

# The limit is two minutes; the rest is as the program is.
IMPATIENT = """
import sys, vitx.data.loader
from vitx.cli import main
vitx.data.loader.WORKER_TIMEOUT_S = 3
sys.exit(main(sys.argv[1:]))
"""


def session_of(pid: int) -> set[int]:
    return {each for each, _, session in live_processes() if session == pid}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train/ape/00.png", "val/cow/06.png"])
def test_a_loader_that_hangs(name: str, pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", "dataset.workers=1")
    with held(pictures / name) as somebody_waits:
        program = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, "train", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until(somebody_waits, what="the loader")
        for pid in session_of(program.pid) - {program.pid}:
            os.kill(pid, signal.SIGSTOP)
    try:
        _, said = program.communicate(timeout=60)
    finally:
        for pid in session_of(program.pid):
            os.kill(pid, signal.SIGKILL)
        program.communicate()

    assert program.returncode == 3
    assert "a loader process ended or hung" in said
    assert "Traceback" not in said
