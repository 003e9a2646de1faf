"""A run leaves no process, no open file and no memory behind."""

import gc
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tests.train.programs import Programs
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, train
from vitx.errors import Preempted

pytestmark = LOADERS_FORK


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_processes_files_and_handlers(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "dataset.workers=2", "epochs=6st")
    train(*words, f"run_dir={tmp_path / 'first'}")  # what stays open once, such as /dev/urandom
    before = open_files()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    train(*words, f"run_dir={tmp_path / 'second'}")
    with pytest.raises(Preempted):
        train(*words, f"run_dir={tmp_path / 'stopped'}", "stop_at=2st")

    assert open_files() <= before
    assert multiprocessing.active_children() == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_over_two_thousand_steps(pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    program = vitx(
        "train", *words, "epochs=2000st", "evaluation.every=100st", "checkpoint.every=5%"
    )
    statm = Path(f"/proc/{program.pid}/statm")
    resident: dict[int, int] = {}
    for step in range(500, 1901, 100):
        program.reaches(lambda step=step: logged(tmp_path / "run") >= step, what=f"step {step}")
        resident[step] = int(statm.read_text().split()[1])
    assert program.wait() == 0

    assert max(resident.values()) <= 1.05 * resident[500], resident
