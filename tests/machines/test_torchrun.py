"""torchrun on this machine: what it says of a failure, and what its own signals do to a run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.torchrun import ENDS_S
from tests.train.programs import ROOT, live_processes, until
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, read, total, train

pytestmark = [*LOADERS_FORK, pytest.mark.slow, pytest.mark.timeout(900)]

GONE_WITHIN_S = 5.0

# `vitx train` with another story: all wait for one that goes wrong.
GO_WRONG = """
import os, signal, sys
import vitx.commands.train
from vitx import cli
from vitx.config.schema import RuntimeConfig
from vitx.errors import DataError
from vitx.runtime.launch import meet

def bug():
    raise ValueError("the cause")

def bad_data():
    raise DataError("the cause")

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def story(args):
    world = meet(RuntimeConfig(setup_timeout_s=60))
    with world.losses():
        world.gather(0)
        if world.rank == int(os.environ["WRONG_RANK"]):
            {how}()
        world.gather(1)
    return 0

vitx.commands.train.main = story
sys.exit(cli.main(["train"]))
"""


class Torchrun:
    """torchrun with some processes here, leader of a session."""

    def __init__(self, folder: Path, *words: str, ranks: int = 2, **env: str) -> None:
        self._output = folder / "output.txt"
        counted = ("--standalone", f"--nproc-per-node={ranks}")
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *counted, *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | env,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._output.read_text()

    def running(self) -> bool:
        return self.process.poll() is None

    def trains(self, run: Path) -> None:
        """Wait until some steps are done."""
        until(lambda: logged(run) >= 4 or not self.running(), ENDS_S, what="some steps")
        assert self.running(), self.text

    def left(self) -> set[int]:
        """Return the live processes that it started; each leads a session of its own."""
        mark = f"VITX_CACHE={self._output.parent}".encode()
        return {pid for pid, _, _ in live_processes() if mark in environment(pid)}


def environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.fixture
def words(pictures: Path, tmp_path: Path) -> tuple[str, ...]:
    """Those of a run on two processes, with the same end as on one."""
    exact = ("runtime.exact_world=true", "runtime.micro_batch=2", "epochs=20ep")
    where = (f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    return (*TINY, *EVERYTHING, *exact, *where)


@pytest.mark.parametrize("how", ["bug", "bad_data", "killed"])
def test_its_root_cause_is_the_cause_in_20_of_20(how: str, tmp_path: Path) -> None:
    story = tmp_path / "story.py"
    story.write_text(GO_WRONG.replace("{how}", how))
    for number in range(7):  # 21 in all
        wrong = number % 3
        program = Torchrun(tmp_path, str(story), ranks=3, WRONG_RANK=str(wrong))
        assert program.process.wait(ENDS_S) == 1
        (cause,) = re.findall(r"Root Cause .*?rank      : (\d)", program.text, re.DOTALL)
        assert int(cause) == wrong, program.text
        lost = re.findall(r"^vitx train: another process .* was lost", program.text, re.MULTILINE)
        assert len(lost) == 2, program.text


def test_asked_to_stop_all_save_one_step(
    words: tuple[str, ...], pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    program = Torchrun(tmp_path, "-m", "vitx", "train", *words, "checkpoint.every=100ep")
    program.trains(run)
    program.process.send_signal(signal.SIGTERM)

    assert program.process.wait(ENDS_S) != 0
    assert re.search(r"stopped by SIGTERM after step \d+ of", program.text), program.text
    assert read(run / "run.json")["status"] == "preempted"
    assert len(list((run / "checkpoints").iterdir())) == 1
    train(*words, "checkpoint.every=100ep")
    train(*words[:-1], "checkpoint.every=100ep", f"run_dir={tmp_path / 'alone'}")
    assert total(run) == total(tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_nothing_outlives_it(number: int, words: tuple[str, ...], tmp_path: Path) -> None:
    mark = {"VITX_CACHE": str(tmp_path)}
    program = Torchrun(tmp_path, "-m", "vitx", "train", *words, "dataset.workers=1", **mark)
    program.trains(tmp_path / "run")
    assert len(program.left()) >= 5  # itself, two ranks, a loader each
    program.process.send_signal(number)

    assert program.process.wait(ENDS_S) == -number
    until(lambda: not program.left(), GONE_WITHIN_S, what="the ranks and their loaders")
