"""Training on local data opens no connection, and needs nothing of the machine's surroundings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.programs import ROOT
from tests.train.tiny import total

PROGRAM = (sys.executable, "-W", "ignore", "-m", "vitx")


def bare(**further: str) -> dict[str, str]:
    """Return an environment without a home and all that people keep in theirs."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C", **further}


def run(*command: str, cwd: Path, env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def needs(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{command[0]} can't be used here: {error}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_socket_leads_anywhere_and_neither_network_nor_home_nor_locale_is_missed(
    short: tuple[str, ...], finished: Path, tmp_path: Path
) -> None:
    """All system calls about sockets of a whole training, in a network of its own without any."""
    log, alone = tmp_path / "calls", ("unshare", "-n")
    watched = ("strace", "-f", "-qq", "-e", "trace=%network", "-o", str(log))
    needs(*alone, *watched, "true")
    env = bare(TZ="Pacific/Kiritimati", VITX_CACHE=str(tmp_path / "cache"))
    # Two loaders make the same samples as none. They hand over shared memory by its descriptor,
    # through sockets of pairs and of the file system, which lead to no other machine.
    words = (*short, "dataset.workers=2", f"run_dir={tmp_path / 'run'}")
    run(*alone, *watched, *PROGRAM, "train", *words, cwd=tmp_path, env=env)
    assert set(re.findall(r"\b[AP]F_\w+", log.read_text())) <= {"AF_UNIX"}
    assert total(tmp_path / "run") == total(finished)
    assert not list((tmp_path / "cache").rglob("*"))


def test_the_watch_sees_a_connection(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    needs("strace", "-f", "-qq", "-e", "trace=%network", "true")
    opens = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=%network", "-o", log, sys.executable, "-c", opens],
        check=True,
    )
    assert "AF_INET" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("shift", ["-20y", "+20y"])
def test_with_a_clock_that_is_wrong(
    shift: str, short: tuple[str, ...], finished: Path, tmp_path: Path
) -> None:
    needs("faketime", shift, "true")
    words = (*short, f"run_dir={tmp_path / 'run'}")
    run("faketime", shift, *PROGRAM, "train", *words, cwd=tmp_path, env=bare())
    assert total(tmp_path / "run") == total(finished)
