"""Runs of several processes that are killed, stopped, asked to stop, or go wrong in one of them."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.train.programs import Program, Programs, until
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, newest, read, total, train

pytestmark = LOADERS_FORK

TWO = ("runtime.devices=2", "runtime.exact_world=true", "runtime.micro_batch=2")


@pytest.fixture(scope="module")
def words(pictures: Path) -> tuple[str, ...]:
    return (*TINY, *EVERYTHING, f"dataset.path={pictures}", *TWO, "checkpoint.every=2st")


@pytest.fixture(scope="module")
def whole(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the run comes to when nothing happens to it, on one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(*words, "runtime.devices=1", f"run_dir={folder}")
    return total(folder)


def ranks_of(program: Program) -> list[int]:
    """Return the ids of a program's ranks, in their order."""
    folder = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    return sorted(map(int, folder.read_text().split()))


def begun(program: Program, run_dir: Path, *, steps: int = 2) -> list[int]:
    """Wait until training goes; return the ids of the ranks."""
    program.reaches(lambda: logged(run_dir) >= steps, what="some steps")
    return ranks_of(program)


def last_line(program: Program) -> str:
    return program.text.splitlines()[-1]


@pytest.fixture
def long(words: tuple[str, ...], tmp_path: Path) -> tuple[str, ...]:
    """A run that does not end by itself."""
    return (*words, "epochs=500", f"run_dir={tmp_path / 'run'}", "checkpoint.every=2st")


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_ends_the_run_and_is_named(
    number: int, long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long)
    ranks = begun(program, tmp_path / "run")
    os.kill(ranks[number], signal.SIGKILL)

    assert program.wait(timeout_s=15) == 6
    assert f"rank {number} (process {ranks[number]}) was ended by SIGKILL" in last_line(program)
    assert "the same command goes on" in last_line(program)
    assert program.session() == set()
    assert "Traceback" not in program.text


def test_what_a_killed_rank_left_is_gone_on_with_by_itself(
    words: tuple[str, ...], whole: str, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    program = vitx("train", *words, f"run_dir={run_dir}", "runtime.max_restarts=1")
    os.kill(begun(program, run_dir)[1], signal.SIGKILL)

    assert program.wait() == 0, program.text
    assert "beginning again where it was saved" in program.text
    assert total(run_dir) == whole
    assert read(run_dir / "run.json")["sessions"] == 2


def test_a_run_that_was_asked_to_stop_does_not_begin_again(
    words: tuple[str, ...], whole: str, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    program = vitx("train", *words, f"run_dir={run_dir}", "runtime.max_restarts=1")
    rank = begun(program, run_dir)[1]
    os.kill(rank, signal.SIGSTOP)
    program.signal(signal.SIGTERM)
    time.sleep(0.5)  # it has heard that, and waits for the rank
    os.kill(rank, signal.SIGKILL)

    assert program.wait() == 6, program.text
    assert "beginning again" not in program.text
    vitx.done("train", *words, f"run_dir={run_dir}")
    assert total(run_dir) == whole


@pytest.mark.parametrize(
    ("number", "to", "code"),
    [
        (signal.SIGTERM, "launcher", 75),
        (signal.SIGUSR1, "launcher", 75),
        (signal.SIGUSR2, "rank 1", 75),
        (signal.SIGTERM, "rank 0", 75),
        (signal.SIGINT, "launcher", 130),
    ],
)
def test_asked_to_stop_all_ranks_stop_at_one_step(
    number: int,
    to: str,
    code: int,
    words: tuple[str, ...],
    whole: str,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    slow = (*words, f"run_dir={run_dir}", "checkpoint.every=100ep", "logger.every=1st")
    program = vitx("train", *slow)
    ranks = begun(program, run_dir)
    os.kill(program.pid if to == "launcher" else ranks[int(to[-1])], number)

    ended = program.wait(timeout_s=15)
    if ended == 0:
        pytest.skip("it was faster than the signal")
    assert ended == code, program.text
    assert program.session() == set()
    assert re.search(rf"stopped by {signal.Signals(number).name} after step \d+ of", program.text)
    assert read(run_dir / "run.json")["status"] == "preempted"
    train(*slow)
    assert total(run_dir) == whole


def test_a_second_request_ends_all_at_once(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long)
    ranks = begun(program, tmp_path / "run", steps=4)
    os.kill(ranks[1], signal.SIGSTOP)  # so that the first one can't be carried out
    program.signal(signal.SIGINT)
    time.sleep(0.3)
    assert program.running()
    before = {file: file.read_bytes() for file in newest(tmp_path / "run").iterdir()}
    program.signal(signal.SIGINT)

    assert program.wait(timeout_s=5) == 130
    assert program.session() == set()
    assert {file: file.read_bytes() for file in newest(tmp_path / "run").iterdir()} == before


def test_a_rank_that_hangs_is_given_up(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long, "runtime.step_timeout_s=4")
    ranks = begun(program, tmp_path / "run")
    os.kill(ranks[1], signal.SIGSTOP)

    assert program.wait(timeout_s=30) == 6
    assert f"rank 1 (process {ranks[1]}) kept the others waiting" in last_line(program)
    assert "runtime.step_timeout_s" in last_line(program)
    assert "most recent call first" in program.text  # where it stood
    assert program.session() == set()


def test_ranks_that_all_stand_still_are_given_up(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long, "runtime.step_timeout_s=2")
    for rank in begun(program, tmp_path / "run"):
        os.kill(rank, signal.SIGSTOP)

    assert program.wait(timeout_s=15) == 6
    assert "was stopped by a signal for 2 s and was given up" in last_line(program)
    assert "most recent call first" in program.text
    assert program.session() == set()


def test_a_launcher_that_the_terminal_stops_takes_its_ranks_along(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long)
    ranks = begun(program, tmp_path / "run")

    def states() -> set[str]:
        return {
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            for pid in (program.pid, *ranks)
        }

    program.signal(signal.SIGTSTP)  # Ctrl-Z
    until(lambda: states() == {"T"}, what="a stop of all")
    before = logged(tmp_path / "run")
    program.signal(signal.SIGCONT)
    program.reaches(lambda: logged(tmp_path / "run") > before, what="another step")
    program.signal(signal.SIGTERM)
    assert program.wait(timeout_s=15) == 75, program.text


def test_a_long_pause_uses_up_no_restart(
    words: tuple[str, ...], whole: str, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    program = vitx("train", *words, f"run_dir={run_dir}", "runtime.step_timeout_s=2")
    begun(program, run_dir)
    program.signal(signal.SIGTSTP)
    time.sleep(4)
    program.signal(signal.SIGCONT)

    assert program.wait() == 0, program.text
    assert total(run_dir) == whole


def test_a_terminal_that_stops_who_writes_from_another_group_stops_no_rank(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    master, terminal = pty.openpty()
    settings = termios.tcgetattr(terminal)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    command = [sys.executable, "-m", "vitx", "train", *words, f"run_dir={tmp_path / 'run'}"]

    def leads_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=leads_the_terminal
    ) as program:
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # so ends what was read when nobody writes any more
            while piece := os.read(master, 4096):
                said += piece
    os.close(master)
    assert program.returncode == 0, said.decode()


def test_a_master_that_nobody_reaches_is_named(
    words: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    told = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    alone = (*words, "runtime.devices=1", "runtime.setup_timeout_s=2")
    said = vitx.done("train", *alone, code=6, MASTER_PORT="9", **told)

    assert said.startswith(
        "vitx train: the 2 processes of this run did not meet: nobody answered at 127.0.0.1:9 "
        "within 2 s (Connection refused)"
    )
    assert len(said.splitlines()) == 1


def test_nothing_outlives_a_killed_launcher(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long, "dataset.workers=1")
    begun(program, tmp_path / "run")
    assert len(program.session()) >= 5  # launcher, two ranks, a loader each
    program.signal(signal.SIGKILL)

    assert program.wait() == -signal.SIGKILL
    program.leaves_nothing()


def test_a_picture_that_one_rank_can_not_read_ends_the_run_as_a_single_process(
    words: tuple[str, ...], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "pictures")
    bad = tmp_path / "pictures/train/ape/03.png"
    bad.write_bytes(bad.read_bytes()[:60])
    words = (*words, f"dataset.path={tmp_path / 'pictures'}")
    said = [
        vitx.done(
            "train", *words, f"run_dir={tmp_path / devices}", f"runtime.devices={devices}", code=3
        )
        for devices in ("1", "2")
    ]

    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
    assert "03.png" in said[1]


def test_only_loopback_is_listened_on(
    long: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx("train", *long)
    ranks = begun(program, tmp_path / "run")
    listening = [address for pid in (program.pid, *ranks) for address in listening_addresses(pid)]
    program.signal(signal.SIGTERM)

    assert program.wait() == 75
    assert listening
    assert set(listening) == {"127.0.0.1"}


def listening_addresses(pid: int) -> list[str]:
    """Return the addresses that a process accepts TCP connections on."""
    links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in own:
                digits = local.partition(":")[0]
                octets = [str(int(digits[i : i + 2], 16)) for i in range(0, 8, 2)]
                found.append(".".join(reversed(octets)) if table == "tcp" else digits)
    return found
