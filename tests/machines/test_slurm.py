"""The script for Slurm, carried out by a shell; srun and scontrol stand for those of a cluster."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.torchrun import ENDS_S
from tests.train.programs import ROOT, until
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, read, total, train
from vitx.paths import slurm_dir

pytestmark = LOADERS_FORK
SCRIPT = slurm_dir() / "train.sbatch"

# What matters of it here: a task for each, its numbers, signals passed on, the highest exit code.
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
tasks = []
signal.signal(signal.SIGUSR1, lambda number, _: [each.send_signal(number) for each in tasks])
words = [word for word in sys.argv[1:] if not word.startswith("--")]
for number in map(str, range(int(os.environ["SLURM_NTASKS"]))):
    own = {{"SLURM_PROCID": number, "SLURM_LOCALID": number}}
    tasks.append(subprocess.Popen(words, env=os.environ | own))
sys.exit(max(each.wait() % 256 for each in tasks))
"""
SCONTROL = """#!/bin/sh
case "$1" in
show) echo "$3" ;;
requeue) echo "$2" >> requeued ;;
esac
"""


class Turn:
    """One turn of a job: its batch shell, which is all that Slurm tells that time is over."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._folder, self._output = folder, folder / "slurm-77.out"
        own = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "VITX": str(Path(sys.executable).with_name("vitx")),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_CPUS_PER_TASK": "1",
        }
        with self._output.open("ab") as file:
            self._process = subprocess.Popen(
                ["bash", SCRIPT, *words],
                cwd=folder,
                env=os.environ | own,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def requeued(self) -> list[str]:
        file = self._folder / "requeued"
        return file.read_text().split() if file.exists() else []

    def running(self) -> bool:
        return self._process.poll() is None

    def time_is_over(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def wait(self) -> int:
        return self._process.wait(ENDS_S)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return tmp_path


def test_the_script_has_no_fault_that_can_be_read() -> None:
    if shutil.which("shellcheck") is None:
        subprocess.run(["bash", "-n", SCRIPT], check=True)
        pytest.skip("shellcheck is not installed: the syntax alone was checked")
    subprocess.run(["shellcheck", SCRIPT], check=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_whose_time_is_over_saves_is_requeued_and_goes_on(
    cluster: Path, pictures: Path
) -> None:
    exact = ("runtime.exact_world=true", "runtime.micro_batch=2", "epochs=20ep")
    words = (*TINY, *EVERYTHING, *exact, f"dataset.path={pictures}", "checkpoint.every=100ep")
    run = cluster / "runs/slurm-77"
    first = Turn(cluster, *words)
    until(lambda: logged(run) >= 2 or not first.running(), ENDS_S, what="some steps")
    first.time_is_over()

    assert first.wait() == 75, first.text
    assert "stopped by SIGUSR1 after step" in first.text
    assert first.requeued == ["77"]
    assert read(run / "run.json")["status"] == "preempted"

    second = Turn(cluster, *words)
    assert second.wait() == 0, second.text
    assert second.requeued == ["77"]
    train(*words, f"run_dir={cluster / 'alone'}")
    assert total(run) == total(cluster / "alone")


@pytest.mark.slow
def test_a_job_that_pauses_or_fails_is_not_requeued(cluster: Path, pictures: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}")
    paused = Turn(cluster, *words, "stop_at=2st", "run_dir=paused")
    assert paused.wait() == 75, paused.text
    failed = Turn(cluster, *words, "epochs=0", "run_dir=failed")
    assert failed.wait() == 2, failed.text
    assert failed.requeued == []
