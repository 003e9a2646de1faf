"""Limits of control groups: real ones where they can be made, and both layouts of their files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitx.runtime.limits
from vitx.runtime.limits import (
    available_memory_bytes,
    cores_by_affinity,
    cores_by_quota,
    memory_share,
    process_share,
)

ROOT = Path(__file__).resolve().parents[2]
ASK = "from vitx.runtime.limits import *; print({})"


@pytest.fixture
def group() -> Iterator[str]:
    """The name of a group that is taken away afterwards."""
    name = f"vitx-test-{os.getpid()}"
    yield name
    for controller in ("memory", "cpu", "pids"):
        folder = Path("/sys/fs/cgroup") / controller / name
        if folder.is_dir():
            folder.rmdir()


def inside(group: str, controller: str, limits: dict[str, int], question: str) -> str:
    """Answer a question in a process of a new group with these limits."""
    folder = Path("/sys/fs/cgroup") / controller / group
    try:
        folder.mkdir()
        for name, value in limits.items():
            (folder / name).write_text(str(value))
    except OSError as error:
        pytest.skip(f"no right to make a control group of the first version: {error}")
    entering = f'echo $$ > {folder}/cgroup.procs && exec "$@"'
    return subprocess.run(
        ["sh", "-c", entering, "sh", sys.executable, "-c", ASK.format(question)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_memory_of_a_real_group(group: str) -> None:
    limits = {"memory.limit_in_bytes": 300 * 2**20}
    question = "memory_share().allowed, 0 < available_memory_bytes() < 300 * 2**20"
    assert inside(group, "memory", limits, question) == f"{300 * 2**20} True"


def test_cores_of_a_real_group(group: str) -> None:
    limits = {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 150_000}
    assert inside(group, "cpu", limits, "cores_by_quota()") == "1.5"


def test_processes_of_a_real_group(group: str) -> None:
    question = "process_share().allowed, process_share().used"
    assert inside(group, "pids", {"pids.max": 50}, question) == "50 1"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the second version in place of the system's."""
    monkeypatch.setattr(vitx.runtime.limits, "_GROUPS", tmp_path)
    return tmp_path


def test_the_second_version(groups: Path) -> None:
    assert (cores_by_quota(), memory_share(), process_share()) == (None, None, None)
    whole = available_memory_bytes()
    for name, text in {
        "cpu.max": "250000 100000",
        "memory.max": f"{2**21}",
        "memory.current": f"{2**20}",
        "memory.stat": f"anon 7\ninactive_file {2**19}\nactive_file 1\n",
        "pids.max": "100",
        "pids.current": "60",
    }.items():
        (groups / name).write_text(f"{text}\n")

    assert cores_by_quota() == 2.5
    memory, processes = memory_share(), process_share()
    assert memory is not None and processes is not None
    assert (memory.allowed, memory.left) == (2**21, 2**20 + 2**19)
    assert processes.left == 40
    assert whole is not None and available_memory_bytes() == 2**20 + 2**19

    for name in ("cpu.max", "memory.max", "pids.max"):
        (groups / name).write_text("max 100000\n" if name == "cpu.max" else "max\n")
    assert (cores_by_quota(), memory_share(), process_share()) == (None, None, None)


def test_cores_are_those_of_the_affinity() -> None:
    assert cores_by_affinity() == len(os.sched_getaffinity(0))
