"""`make install` where it can't succeed: one line, a non-zero exit, soon, and repairable."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "help",
    "install",
    "train",
    "test",
    "test-thorough",
    "test-slow",
    "lint",
    "types",
    "bench",
    "clean",
}
LIMIT_S = 30
CLOSED = "http://127.0.0.1:9/simple"
# Nothing listens there, and no wheel folder or further index of this machine stands in for it.
OFFLINE = {
    "PIP_INDEX_URL": CLOSED,
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make install` reads, away from this checkout's own .venv."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    for name in ("vitx", "conf", "recipes", "slurm"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def make(checkout: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user does, without the variables of a make that runs these tests."""
    kept = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "SETUP"}}
    return subprocess.run(
        ["make", *words],
        cwd=checkout,
        env=kept | {"PIP_RETRIES": "1", "LC_ALL": "C"} | extra,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_S,
    )


def failure(checkout: Path, *words: str, **extra: str) -> str:
    """Run `make install`, expect it to fail soon, and return its one line of explanation."""
    start = time.monotonic()
    done = make(checkout, "install", *words, **extra)
    assert time.monotonic() - start < LIMIT_S
    assert done.returncode != 0
    assert not (checkout / ".venv/.installed").exists()
    # The second line is make's own "make: *** [...] Error 1".
    line, of_make = done.stderr.splitlines()
    assert of_make.startswith("make: ***")
    return line


def interpreter(folder: Path, version: tuple[int, int]) -> Path:
    """A real interpreter that reports another version of itself."""
    program = f"import sys; sys.version_info = {(*version, 0, 'final', 0)}; exec(sys.argv[2])"
    path = folder / "python3"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", [(2, 7), (3, 1), (3, 9), (3, 10)])
def test_old_python_is_refused(checkout: Path, tmp_path: Path, version: tuple[int, int]) -> None:
    line = failure(checkout, f"PYTHON={interpreter(tmp_path, version)}")
    assert "is Python {}.{}, vitx needs 3.11 or newer".format(*version) in line
    assert "make install PYTHON=" in line
    assert not (checkout / ".venv").exists()


def test_missing_python_is_named(checkout: Path) -> None:
    line = failure(checkout, "PYTHON=python9.99")
    assert "'python9.99' does not run" in line
    assert "make install PYTHON=" in line


@pytest.mark.parametrize("retries", ["0", "1"])
def test_no_network_leaves_one_line_and_pips_log(checkout: Path, retries: str) -> None:
    line = failure(checkout, f"PYTHON={sys.executable}", **OFFLINE | {"PIP_RETRIES": retries})
    assert "no network" in line
    assert CLOSED in (checkout / ".venv/install.log").read_text()
    assert "details: .venv/install.log" in line


@pytest.fixture
def full_disk(checkout: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = checkout / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("needed_mb", ["2000", "0"], ids=["found-before", "found-while-writing"])
def test_full_disk_is_named(checkout: Path, full_disk: Path, needed_mb: str) -> None:
    line = failure(checkout, f"PYTHON={sys.executable}", "VENV=disk/venv", f"DISK_MB={needed_mb}")
    assert "the disk is full" in line
    assert not (full_disk / "venv/.installed").exists()


def test_what_an_interrupted_setup_left_is_thrown_away(checkout: Path, tmp_path: Path) -> None:
    """The mark of a set-up that did not end condemns everything beside it."""
    broken = checkout / ".venv/lib/half-a-package.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("def f(:\n")
    (checkout / ".venv/.installing").touch()
    failure(checkout, f"PYTHON={sys.executable}", **OFFLINE)
    assert not broken.exists()
    assert (checkout / ".venv/.installing").exists()


def test_an_environment_made_by_hand_is_not_emptied(checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    own = checkout / ".venv/notes.txt"
    own.write_text("mine")
    failure(checkout, f"PYTHON={sys.executable}", **OFFLINE)
    assert own.read_text() == "mine"


def test_setup_runs_again_only_when_a_pinned_version_may_have_changed(checkout: Path) -> None:
    """Asked of make itself: `-q` exits with 0 where nothing is to be done, and 1 otherwise."""
    stamp = checkout / ".venv/.installed"
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    assert make(checkout, "-q", "install").returncode == 1
    stamp.touch()
    assert make(checkout, "-q", "install").returncode == 0
    for name in ("constraints.txt", "pyproject.toml"):
        later = stamp.stat().st_mtime + 10
        os.utime(checkout / name, (later, later))
        assert make(checkout, "-q", "install").returncode == 1, name
        os.utime(stamp, (later + 1, later + 1))
        assert make(checkout, "-q", "install").returncode == 0
    (checkout / ".venv/bin/python").unlink()
    assert make(checkout, "-q", "install").returncode == 1


def test_train_passes_the_overrides_on(checkout: Path) -> None:
    """The set-up is over and `vitx` writes down how it was called."""
    called = checkout / "called"
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    program = checkout / ".venv/bin/vitx"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{called}"; exit 3\n')
    program.chmod(0o755)
    (checkout / ".venv/.installed").touch()
    done = make(checkout, "train", "ARGS=model=xcit_s12 epochs=5")
    assert called.read_text().split() == ["train", "model=xcit_s12", "epochs=5"]
    assert done.returncode != 0


def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    listed = make(checkout).stdout
    assert listed == make(checkout, "help").stdout
    assert {line.split()[1] for line in listed.splitlines()} == TARGETS
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == TARGETS


def test_continuous_integration_runs_what_the_readme_names() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    (line,) = [words for words in script.read_text().splitlines() if words.startswith("make ")]
    assert line == "make lint types test test-thorough"
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    assert line in readme.read_text()


def test_constraints_pin_every_dependency_inside_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(name): Version(version) for name, version in pins}
    # A local part such as +cpu would shut out every machine with another build.
    assert [name for name, version in pinned.items() if version.local] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, named):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement
