"""SIGKILL at any moment: nothing acknowledged is lost, and the end is that of a quiet run."""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.train.programs import Program, Programs, until
from tests.train.tiny import EVERYTHING, TINY, total, train
from vitx.errors import Preempted

SYSCALLS = ("fsync", "rename", "renameat2", "mkdir", "unlink", "unlinkat")


def committed(run_dir: Path) -> int:
    steps = [int(path.name[5:]) for path in (run_dir / "checkpoints").glob("step-????????")]
    return max(steps, default=0)


def assert_sound(run_dir: Path) -> None:
    """Assert what has to be true of a run directory whenever it is looked at."""
    if not (run_dir / "metrics.jsonl").exists():
        return
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    steps = [json.loads(line)["step"] for line in lines if line.endswith("\n")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= committed(run_dir) - 1  # that of a stop waits inside its checkpoint
    assert len(list((run_dir / "checkpoints").glob(".tmp-*"))) <= 2  # one write, one removal


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [3, 40])
def test_at_random_moments(kills: int, pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    words = (
        *TINY,
        *EVERYTHING,
        f"dataset.path={pictures}",
        "dataset.workers=1",
        "checkpoint.every=2st",
        "epochs=8ep",
    )
    run_dir = tmp_path / "run"
    train(*words, f"run_dir={tmp_path / 'whole'}")
    draw, killed = random.Random(0), 0
    while True:
        before = committed(run_dir) if (run_dir / "checkpoints").exists() else 0
        program = vitx("train", *words, f"run_dir={run_dir}")
        if killed == kills:
            break
        until(lambda p=program: "length" in p.text or not p.running(), what="the start")
        time.sleep(draw.uniform(0, 0.4))
        with contextlib.suppress(ProcessLookupError):  # it may have finished
            program.signal(signal.SIGKILL)
        killed += 1
        if program.wait() == 0:
            break  # finished before it was killed
        resumed = re.search(r"at step (\d+) of", program.text)
        assert (int(resumed[1]) if resumed else 0) == before
        assert_sound(run_dir)
    assert program.wait() == 0
    assert killed > 2
    assert total(run_dir) == total(tmp_path / "whole")


class Traced:
    """A `vitx` process with strace upon it from before its first word."""

    def __init__(self, program: Program, log: Path, *options: str) -> None:
        self.program = program
        self._strace = subprocess.Popen(
            ["strace", "-qq", "-y", "-o", log, "-p", str(program.pid), *options],
            stderr=subprocess.PIPE,
        )
        status = Path(f"/proc/{program.pid}/status")
        until(lambda: "TracerPid:\t0" not in status.read_text(), what="strace")
        program.signal(signal.SIGCONT)

    def wait(self) -> int:
        code = self.program.wait()
        self._strace.communicate(timeout=20)
        return code


@pytest.fixture
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    attach = ["strace", "-qq", "-o", "/dev/null", "true"]
    if subprocess.run(attach, capture_output=True, check=False).returncode:
        pytest.skip("no right to trace")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("acknowledged", [0, 2])
def test_at_every_system_call_that_changes_the_disk(
    acknowledged: int, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "checkpoint.every=1st", "epochs=4st")
    words = (*words, "evaluation.every=2st")
    begun, whole, log = tmp_path / "begun", tmp_path / "whole", tmp_path / "log"
    if acknowledged:  # it left something undone at that step
        with pytest.raises(Preempted):
            train(*words, f"run_dir={begun}", f"stop_at={acknowledged}st")
        shutil.copytree(begun, whole)
    program = vitx("train", *words, f"run_dir={whole}", stopped=True)
    assert Traced(program, log, "-e", f"trace={','.join(SYSCALLS)}").wait() == 0
    calls = [line.partition("(")[0] for line in log.read_text().splitlines()]
    assert len(calls) > 40

    points = [(call, nth + 1) for call in SYSCALLS for nth in range(calls.count(call))]
    for name, number in points:
        run_dir = tmp_path / f"{name}-{number}"
        if acknowledged:
            shutil.copytree(begun, run_dir)
        program = vitx("train", *words, f"run_dir={run_dir}", stopped=True)
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        code = Traced(program, log, "-e", f"trace={name}", "-e", inject).wait()
        assert code in (0, -signal.SIGKILL), program.text
        assert_sound(run_dir)
        assert committed(run_dir) >= acknowledged, (name, number)
        train(*words, f"run_dir={run_dir}")
        assert total(run_dir) == total(whole), (name, number)
        shutil.rmtree(run_dir)


@pytest.mark.usefixtures("strace")
def test_a_checkpoint_reaches_the_disk_before_it_gets_its_name(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "checkpoint.every=1st", "epochs=4st")
    program = vitx("train", *words, f"run_dir={run_dir}", stopped=True)
    calls = "write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,unlinkat"
    assert Traced(program, log, "-e", f"trace={calls}").wait() == 0

    events = list(filter(None, (event(line, run_dir) for line in log.read_text().splitlines())))
    for step in range(1, 5):
        temporary = f"checkpoints/.tmp-{step}-"
        final = f"checkpoints/step-{step:08d}"
        named = events.index(("rename", next(p for c, p in events if c == "rename" and final in p)))
        inside = [(call, path) for call, path in events[:named] if path.startswith(temporary)]
        files = {path for _, path in inside if path.endswith((".safetensors", ".json"))}
        assert {Path(path).name for path in files} == {
            "model.safetensors",
            "ema.safetensors",
            "optimizer.safetensors",
            "state.json",
            "manifest.json",
        }
        for path in files:  # nothing is written behind its fsync
            assert [call for call, each in inside if each == path][-1] == "fsync", path
        assert inside[-1][0] == "fsync"
        assert Path(inside[-1][1]).name.startswith(".tmp-")  # the folder itself, last
        rows_durable = ("fsync", "metrics.jsonl")
        assert rows_durable in events[:named]
        assert events[named + 1] == ("fsync", "checkpoints")
    removals = [number for number, (call, _) in enumerate(events) if call == "unlinkat"]
    third = next(n for n, (c, p) in enumerate(events) if c == "rename" and "step-00000003" in p)
    assert min(removals) > third  # the first is removed when the third is safe


def event(line: str, run_dir: Path) -> tuple[str, str] | None:
    """Return a call and the path, relative to the run, that it is about."""
    call, _, rest = line.partition("(")
    paths = re.findall(rf"[<\"]{re.escape(str(run_dir))}/([^>\"]*)", rest)
    if not paths:
        return None
    return call, " ".join(paths) if call == "rename" else paths[-1]
