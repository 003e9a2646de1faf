"""Signals while the program itself starts: nothing is trained yet, so nothing has to be saved."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.tiny import TINY, read, train, weights

VITX = Path(sys.executable).with_name("vitx")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.1, 0.5, 1, 2, 3, 5])
def test_a_start_that_is_stopped_can_be_repeated(
    number: int, after_s: float, pictures: Path, tmp_path: Path
) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    program = subprocess.Popen(
        [VITX, "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(after_s)
    program.send_signal(number)
    _, said = program.communicate(timeout=60)

    # Before its first word a Python program ends of SIGTERM as any other does.
    allowed = {signal.SIGTERM: (75, -signal.SIGTERM), signal.SIGINT: (130, -signal.SIGINT)}
    assert program.returncode in (*allowed[number], 0), said
    assert "Traceback" not in said
    if program.returncode > 0:
        assert len(said.splitlines()) == 1
    record = tmp_path / "run/run.json"
    if record.exists() and program.returncode:
        assert read(record)["status"] == "preempted"
    train(*words)
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
