"""Shared memory, open files and processes, with the limits of the system itself."""

import os
import re
import resource
import shutil
import subprocess

import pytest

from tests.doctor.looking import found, plain
from vitx.doctor.findings import Grade
from vitx.doctor.loading import check_shared_memory

SMALL_SHM = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"'
_WORKERS = "planned.config.dataset.workers = {}"


def limited(command: str) -> tuple[str, ...]:
    return ("sh", "-c", f'{command}; exec "$@"', "sh")


def test_a_small_dev_shm() -> None:
    limits = ("unshare", "--mount", "sh", "-c", SMALL_SHM, "sh")
    if shutil.which("unshare") is None or subprocess.run([*limits, "true"], check=False).returncode:
        pytest.skip("no right to mount a small /dev/shm")

    said = found("loading", "check_shared_memory", limits=limits).splitlines()

    # Two batches of the loader process and one in use, of 64 to train on and 128 to measure.
    assert said[0].startswith("warning  shared memory 4 MiB of 4 MiB free in /dev/shm; ")
    assert said[0].endswith("take 331 MiB")
    assert said[1].strip() == (
        "type dataset.workers=0, or mount -o remount,size=1G /dev/shm (docker run --shm-size=1g)"
    )
    change = _WORKERS.format(0)
    assert found("loading", "check_shared_memory", limits=limits, change=change).startswith("ok")


def test_what_batches_take_grows_with_what_makes_them() -> None:
    sizes = []
    for workers, ranks, batch_size in ((1, 1, 64), (2, 1, 64), (1, 2, 64), (1, 1, 256)):
        planned = plain()
        planned.config.dataset.workers = workers
        planned.config.runtime.devices = ranks
        planned.config.batch_size = batch_size
        sizes.append(planned.shared_bytes / (3 * 224 * 224 * 4))

    # (2 per process + 1) x (pictures of a pass + twice a whole pass, at most 256) for each rank
    assert sizes == [3 * 192, 5 * 192, 2 * 3 * 160, 3 * 512]


def test_there_is_room_here() -> None:
    (finding,) = check_shared_memory(plain())
    room = shutil.disk_usage("/dev/shm").free  # noqa: S108
    assert finding.grade is (Grade.ok if room >= plain().shared_bytes else Grade.warning)


def test_few_open_files() -> None:
    change = _WORKERS.format(8)
    said = found("loading", "check_open_files", limits=limited("ulimit -n 64"), change=change)
    assert said.startswith("warning  open files    64 allowed, a process with its loaders takes ")
    assert "type dataset.workers=0, or have ulimit -Hn raised" in said

    said = found("loading", "check_open_files", limits=limited("ulimit -Sn 64"), change=change)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert f"type ulimit -n {min(4096, most)}\n" in said
    change = _WORKERS.format(0)
    said = found("loading", "check_open_files", limits=limited("ulimit -n 64"), change=change)
    assert said.startswith("ok")


def test_few_processes() -> None:
    # Root is held by no limit; what is imported already can be used by anybody.
    limit = "import os, resource; resource.setrlimit(resource.RLIMIT_NPROC, (20, 20)); "
    nobody = "os.setuid(65534)" if os.geteuid() == 0 else ""

    said = found("loading", "check_processes", change=limit + nobody)

    assert re.match(r"warning  processes     20 allowed, \d+ are there, and a run takes ", said)
    assert "type dataset.workers=0" in said
    assert found("loading", "check_processes").startswith("ok")
