"""run.json: true from the first moment to the last, however it ends."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.train.programs import ROOT
from vitx.commands.record import recorded, why_not_exact
from vitx.errors import DataError, Interrupted, Preempted, StorageError
from vitx.runs import RunDir

HERE = {
    "torch": "2.13.0",
    "device": "cpu x86_64",
    "threads": 2,
    "precision": "fp32",
    "cpu_capability": "AVX2",
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_it_says_running_while_it_runs(run: RunDir) -> None:
    with recorded(run, verb="train", argv=("seed=3",), seed=3) as record:
        on_disk = run.read_record()
        assert (on_disk["status"], on_disk["exit_code"]) == ("running", None)
        assert (on_disk["argv"], on_disk["seed"], on_disk["schema"]) == (["seed=3"], 3, 1)
        record["data"] = "fingerprint"

    assert run.read_record()["data"] == "fingerprint"
    assert (run.read_record()["status"], run.read_record()["exit_code"]) == ("finished", 0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Preempted("x"), "preempted", 75),
        (Interrupted("x"), "preempted", 130),
        (DataError("x"), "failed", 3),
        (StorageError("x"), "failed", 4),
        (MemoryError(), "failed", 4),
        (OSError(28, "No space left on device"), "failed", 4),
        (ZeroDivisionError("x"), "failed", 1),
        (KeyboardInterrupt(), "failed", 1),
    ],
)
def test_it_says_how_it_ended(error: BaseException, status: str, code: int, run: RunDir) -> None:
    with pytest.raises(type(error)), recorded(run, verb="train", argv=(), seed=0):
        raise error

    assert (run.read_record()["status"], run.read_record()["exit_code"]) == (status, code)


def test_sessions_are_added_up(run: RunDir) -> None:
    for number in (1, 2, 3):
        with recorded(run, verb="train", argv=(), seed=0) as record:
            if number == 1:
                record["environment"], record["wandb_id"] = HERE, "abc"
                started = record["started"]
        assert run.read_record()["sessions"] == number

    assert run.read_record()["started"] == started
    assert run.read_record()["environment"] == HERE
    assert run.read_record()["wandb_id"] == "abc"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, []),
        ({"threads": 4}, ["threads: 2 before, 4 now"]),
        ({"torch": "2.14.0"}, ["torch: 2.13.0 before, 2.14.0 now"]),
        ({"cpu_capability": "AVX512"}, ["cpu_capability: AVX2 before, AVX512 now"]),
        ({"precision": "bf16"}, ["precision: fp32 before, bf16 now"]),
    ],
)
def test_what_changes_the_last_bits_is_named(change: dict, why: list[str]) -> None:
    assert why_not_exact(HERE, HERE | change, compile_=False) == why
    assert why_not_exact(HERE, HERE | change, compile_=True)[: len(why)] == why


def test_a_gpu_and_a_compiler_promise_nothing() -> None:
    gpu = HERE | {"device": "NVIDIA H200"}

    assert len(why_not_exact(gpu, gpu, compile_=False)) == 1
    assert len(why_not_exact(HERE, HERE, compile_=True)) == 1


def test_versions_and_commit_are_those_of_this_checkout(run: RunDir) -> None:
    with recorded(run, verb="train", argv=(), seed=0):
        pass

    record = run.read_record()
    assert record["versions"]["torch"] == torch.__version__
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    head = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
    assert record["git_commit"].removesuffix("+") == head
