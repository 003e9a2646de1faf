"""Training on a machine that is short of shared memory or descriptors says so at once, code 3."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.programs import ROOT
from tests.train.tiny import TINY

VITX = Path(sys.executable).with_name("vitx")
# Far below the time after which a silent loader process is taken for hung.
AT_ONCE_S = 60.0
SMALL_SHM = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"'
FEW_FILES = 'ulimit -n 32; exec "$@"'


def ended(limits: list[str], *words: str) -> tuple[int, str]:
    """Run `vitx train` on 48 pictures under limits; return its code and its complaint."""
    started = time.monotonic()
    done = subprocess.run(
        [*limits, VITX, "train", *TINY, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert time.monotonic() - started < AT_ONCE_S
    return done.returncode, done.stderr


def small_shm() -> list[str]:
    limits = ["unshare", "--mount", "sh", "-c", SMALL_SHM, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*limits, "true"], check=False).returncode:
        pytest.skip("no right to mount a small /dev/shm")
    return limits


def test_too_little_shared_memory(pictures: Path, tmp_path: Path) -> None:
    words = (f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", "dataset.image_px=256")
    code, said = ended(small_shm(), *words, "dataset.workers=2")

    assert (code, said.count("\n")) == (3, 1), said
    assert said.startswith("vitx train: loader processes ran out of shared memory (/dev/shm); ")
    assert "type dataset.workers=0" in said


@pytest.mark.slow
def test_what_is_to_be_typed_helps(pictures: Path, tmp_path: Path) -> None:
    words = (f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", "dataset.image_px=256")
    assert ended(small_shm(), *words, "dataset.workers=0") == (0, "")
    few = ["sh", "-c", FEW_FILES, "sh"]
    words = (f"dataset.path={pictures}", f"run_dir={tmp_path / 'few'}")
    assert ended(few, *words, "dataset.workers=0") == (0, "")


def test_too_few_descriptors(pictures: Path, tmp_path: Path) -> None:
    few = ["sh", "-c", FEW_FILES, "sh"]
    words = (f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    code, said = ended(few, *words, "dataset.workers=4")

    assert code == 3, said
    # Processes that are ended may complain too, of having no descriptor to tidy up with.
    said = said.splitlines()[-1]
    assert "loader processes ran out of open files, of which 32 are allowed (ulimit -n); " in said
