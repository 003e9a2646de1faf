"""Jobs that Hydra's launcher for Slurm starts by submitit; here its variant without a Slurm."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.torchrun import ENDS_S
from tests.train.programs import ROOT, live_processes, until, words_of
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, read, total, train
from vitx.cli import main

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")

pytestmark = [*LOADERS_FORK, pytest.mark.slow, pytest.mark.timeout(400)]


class Sweep:
    """`vitx train -m` in a folder, with submitit's launcher."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._output = folder / "output.txt"
        launched = ("-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep")
        with self._output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vitx", "train", *launched, *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._output.read_text()

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        return self._process.wait(ENDS_S)

    def kill(self) -> None:
        """Kill the process that was typed; its jobs go on."""
        self._process.kill()

    def job(self) -> int:
        """Return the process that carries out its one job."""
        (job,) = (
            pid
            for pid, _, session in live_processes()
            if session == self._process.pid
            and "submitit.core._submit" in words_of(pid)
            and os.getpgid(pid) != pid  # not a rank of it
        )
        return job


@pytest.mark.parametrize("devices", [1, 2])
def test_a_preempted_job_saves_is_requeued_and_goes_on(
    devices: int, pictures: Path, tmp_path: Path
) -> None:
    exact = ("runtime.exact_world=true", "runtime.micro_batch=2", "epochs=20ep", "seed=3")
    words = (*TINY, *EVERYTHING, *exact, f"dataset.path={pictures}", "checkpoint.every=100ep")
    train(*words, f"run_dir={tmp_path / 'alone'}")
    run = tmp_path / "sweep/0"
    sweep = Sweep(tmp_path, *words, f"runtime.devices={devices}")
    until(lambda: logged(run) >= 2 or not sweep.running(), ENDS_S, what="some steps")
    assert sweep.running(), sweep.text
    os.kill(sweep.job(), signal.SIGUSR2)

    assert sweep.wait() == 0, sweep.text
    assert read(run / "run.json")["sessions"] == 2
    assert total(run) == total(tmp_path / "alone")


def test_a_job_that_fails_is_told_and_costs_nobody_else(pictures: Path, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, *TINY, f"dataset.path={pictures}", "batch_size=64,8", "seed=0")

    assert sweep.wait() == 7, sweep.text
    assert "batch_size=64 is more than the 48 training samples" in sweep.text.splitlines()[-1]
    assert states(tmp_path) == [("failed", 3), ("finished", 0)]


def test_jobs_outlive_whoever_sent_them(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [tmp_path / "sweep" / name for name in ("0-seed=0", "1-seed=1")]
    sweep = Sweep(tmp_path, *TINY, f"dataset.path={pictures}", "epochs=100ep", "seed=0,1")
    until(
        lambda: all(logged(run) >= 2 for run in runs) or not sweep.running(),
        ENDS_S,
        what="some steps of both jobs",
    )
    sweep.kill()
    sweep.wait()
    assert states(tmp_path) == [("running", None)] * 2
    assert main(["sweep", "resume", "sweep"]) == 8  # they run

    until(lambda: states(tmp_path) == [("finished", 0)] * 2, ENDS_S, what="the end of both jobs")
    assert main(["sweep", "resume", "sweep"]) == 0
    assert all(read(run / "run.json")["sessions"] == 1 for run in runs)


def states(folder: Path) -> list[tuple[str, int | None]]:
    """Return what the ledger of the sweep there says of each job."""
    return [(job["state"], job["exit_code"]) for job in read(folder / "sweep/sweep.json")["jobs"]]
