"""SIGKILL at any moment: nothing acknowledged is lost, and the end is that of a quiet run."""

import contextlib
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.programs import Program, Programs, until
from tests.train.tiny import EVERYTHING, TINY, rows, total, train
from vitx.errors import Preempted

SYSCALLS = ("fsync", "rename", "renameat", "renameat2", "mkdir", "unlink", "unlinkat", "rmdir")
STEPS = range(1, 5)
FILES = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)


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
    """A `vitx` process with strace upon it from before its first word.

    Without `-f` it is the main thread that is traced.
    """

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


def main_thread(run_dir: Path, program: Program) -> list[str]:
    """Return the options of strace for what the main thread does."""
    return []


def writer(run_dir: Path, program: Program) -> list[str]:
    """Return the options of strace for what is done to checkpoints, by whatever thread.

    Each thread is counted by itself. But for the last flush of its rows, the main thread does
    nothing to these paths, so that what is counted is the thread that writes.
    """
    folder = run_dir / "checkpoints"
    paths = [run_dir / "metrics.jsonl", folder]
    for step in STEPS:
        temporary = temporary_of(run_dir, program, step)
        paths += [temporary, folder / f"step-{step:08d}"]
        paths += [temporary / name for name in FILES]
        paths += [folder / f".tmp-trash-step-{step:08d}-{program.pid}"]
    return ["-f", *(word for path in paths for word in ("-P", str(path)))]


def temporary_of(run_dir: Path, program: Program, step: int) -> Path:
    return run_dir / "checkpoints" / f".tmp-{step}-{socket.gethostname()}-{program.pid}"


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
@pytest.mark.parametrize(("traced", "least"), [(main_thread, 12), (writer, 30)])
def test_at_every_system_call_that_changes_the_disk(
    traced: Callable[[Path, Program], list[str]],
    least: int,
    acknowledged: int,
    pictures: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "checkpoint.every=1st", "epochs=4st")
    # Without the background every checkpoint is written, and a call has one number.
    words = (*words, "evaluation.every=2st", "checkpoint.background=false")
    begun, whole, log = tmp_path / "begun", tmp_path / "whole", tmp_path / "log"
    if acknowledged:  # it left something undone at that step
        with pytest.raises(Preempted):
            train(*words, f"run_dir={begun}", f"stop_at={acknowledged}st")
        shutil.copytree(begun, whole)
    program = vitx("train", *words, f"run_dir={whole}", stopped=True)
    options = [*traced(whole, program), "-e", f"trace={','.join(SYSCALLS)}"]
    assert Traced(program, log, *options).wait() == 0
    calls = re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(), re.MULTILINE)
    assert len(calls) > least

    points = [(call, nth + 1) for call in SYSCALLS for nth in range(calls.count(call))]
    killed = 0
    for name, number in points:
        run_dir = tmp_path / f"{name}-{number}"
        if acknowledged:
            shutil.copytree(begun, run_dir)
        program = vitx("train", *words, f"run_dir={run_dir}", stopped=True)
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        options = [*traced(run_dir, program), "-e", f"trace={name}", "-e", inject]
        code = Traced(program, log, *options).wait()
        assert code in (0, -signal.SIGKILL), program.text
        killed += code != 0
        assert_sound(run_dir)
        assert committed(run_dir) >= acknowledged, (name, number)
        train(*words, f"run_dir={run_dir}")
        assert total(run_dir) == total(whole), (name, number)
        shutil.rmtree(run_dir)
    assert killed > least


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("file", [pytest.param("model.safetensors", marks=pytest.mark.slow), ""])
def test_between_the_copy_and_the_commit(
    file: str, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    """Training goes on with a snapshot in hand that will never be committed."""
    run_dir, log = tmp_path / "run", tmp_path / "log"
    words = (*TINY, f"dataset.path={pictures}", "checkpoint.every=2st", "epochs=4st")
    program = vitx("train", *words, f"run_dir={run_dir}", stopped=True)
    temporary = temporary_of(run_dir, program, 4)
    options = ["-f", "-P", str(temporary / file), "-e", "trace=fsync"]
    assert Traced(program, log, *options, "-e", "inject=fsync:signal=SIGKILL").wait() < 0

    assert (temporary / "manifest.json").exists()
    assert committed(run_dir) == 2
    assert [row["step"] for row in rows(run_dir)] == [1, 2, 3, 4]
    said = vitx.done("train", *words, f"run_dir={run_dir}")
    assert "at step 2 of 4" in said
    assert committed(run_dir) == 4
    assert not list((run_dir / "checkpoints").glob(".tmp-*"))
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(run_dir) == total(tmp_path / "whole")


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("background", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_checkpoint_reaches_the_disk_before_it_gets_its_name(
    background: str, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "checkpoint.every=1st", "epochs=4st")
    words = (*words, f"checkpoint.background={background}")
    program = vitx("train", *words, f"run_dir={run_dir}", stopped=True)
    calls = "write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlinkat"
    assert Traced(program, log, "-f", "-e", f"trace={calls}").wait() == 0

    events = list(filter(None, (event(line, run_dir) for line in log.read_text().splitlines())))
    named = {
        int(found[1]): number
        for number, (call, path) in enumerate(events)
        if call == "rename" and (found := re.search(r" checkpoints/step-(\d{8})$", path))
    }
    assert max(named) == 4
    assert background == "true" or list(named) == [1, 2, 3, 4]
    for step, number in named.items():
        temporary = f"checkpoints/.tmp-{step}-"
        inside = [
            (call, path)
            for call, path in events[:number]
            if path.startswith(temporary) and call != "rename"  # safetensors renames its files
        ]
        files = {path for _, path in inside if path.endswith((".safetensors", ".json"))}
        assert {Path(path).name for path in files} == set(FILES)
        for path in files:  # nothing is written behind its fsync
            assert [call for call, each in inside if each == path][-1] == "fsync", path
        assert inside[-1][0] == "fsync"
        assert Path(inside[-1][1]).name.startswith(".tmp-")  # the folder itself, last
        rows_written = [n for n, each in enumerate(events) if each == ("write", "metrics.jsonl")]
        begun = next(n for n, (_, path) in enumerate(events) if path.startswith(temporary))
        flushed = [n for n in range(begun) if events[n] == ("fsync", "metrics.jsonl")]
        assert flushed[-1] > rows_written[step - 1]  # its row, the one of each step
        behind = [each for each in events[number + 1 :] if each[1].startswith("checkpoints")]
        assert behind[0] == ("fsync", "checkpoints")
    for number, (call, path) in enumerate(events):
        if call == "rename" and "trash" in path:  # it goes when two newer ones are safe
            gone = int(path.partition("step-")[2][:8])
            safe = [step for step, when in named.items() if step > gone and when < number]
            assert len(safe) >= 2
        if call == "unlinkat":
            assert "trash" in path


def event(line: str, run_dir: Path) -> tuple[str, str] | None:
    """Return a call and the path, relative to the run, that it is about; each call once."""
    call, _, rest = line.partition("(")
    paths = re.findall(rf"[<\"]{re.escape(str(run_dir))}/([^>\"]*)", rest)
    if not paths or "resumed>" in call:
        return None
    call = call.split()[-1].replace("renameat2", "rename").replace("renameat", "rename")
    return call, " ".join(paths) if call == "rename" else paths[-1]
