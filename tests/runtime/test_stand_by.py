"""Requests to stop where no loop polls for them: real signals to the program as it begins."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.programs import ROOT, Program, Programs, held, until
from tests.train.tiny import TINY
from vitx.errors import Interrupted, Paused, Preempted, Stopped, as_request
from vitx.runtime.signals import HANDLED, StandBy, StopRequest, give_back, take_over

CODES = {number: 130 if number == signal.SIGINT else 75 for number in HANDLED}


@pytest.fixture
def option(tmp_path: Path) -> Path:
    """An experiment of a folder of one's own, read while the configuration is composed."""
    file = tmp_path / "conf/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nseed: 1\n")
    return file


def composing(option: Path, vitx: Programs, verb: str = "train") -> Program:
    """Start a program that waits for its configuration."""
    place = f"run_dir={option.parents[2] / 'run'}"
    return vitx(verb, "--config-dir", str(option.parents[1]), "experiment=mine", place)


@pytest.mark.parametrize("number", HANDLED)
def test_before_training_begins(number: int, option: Path, vitx: Programs, tmp_path: Path) -> None:
    with held(option) as somebody_waits:
        program = composing(option, vitx)
        program.reaches(somebody_waits, what="the configuration")
        program.signal(number)
        assert program.wait(timeout_s=10) == CODES[number]

    name = signal.Signals(number).name
    assert program.text == f"vitx train: stopped by {name} before training began\n"
    assert not (tmp_path / "run").exists()


def test_twice_at_once_is_one_request(option: Path, vitx: Programs) -> None:
    with held(option) as somebody_waits:
        program = composing(option, vitx)
        program.reaches(somebody_waits, what="the configuration")
        program.signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            program.signal_group(signal.SIGTERM)
        assert program.wait(timeout_s=10) == 75
    assert program.text == "vitx train: stopped by SIGTERM before training began\n"


def test_what_is_ignored_stays_so(option: Path, tmp_path: Path) -> None:
    """As under nohup."""
    words = ["train", "--config-dir", str(option.parents[1]), "experiment=mine"]
    with held(option) as somebody_waits:
        program = subprocess.Popen(
            ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-m", "vitx", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "VITX_RUNS": str(tmp_path / "runs")},
            stderr=subprocess.PIPE,
            text=True,
        )
        until(somebody_waits, what="the configuration")
        program.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=20)
    assert program.returncode == 75
    assert said == "vitx train: stopped by SIGTERM before training began\n"


def test_a_directory_that_was_made_meanwhile_is_taken_away(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    # To count the GPUs another program imports torch: that takes a second.
    words = (*TINY, f"dataset.path={pictures}", "runtime.devices=null")
    program = vitx("train", *words, f"run_dir={tmp_path / 'run'}")
    program.reaches((tmp_path / "run/config.yaml").exists, what="the run's configuration")
    program.signal(signal.SIGTERM)

    assert program.wait(timeout_s=10) == 75
    assert program.text == "vitx train: stopped by SIGTERM before training began\n"
    assert not (tmp_path / "run").exists()
    program.leaves_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_pictures_are_checked(
    number: int, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("check", *TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
        program.reaches(somebody_waits, what="the pictures")
        program.signal(number)
        assert program.wait(timeout_s=10) == CODES[number]

    assert program.last_line == f"vitx check: stopped by {signal.Signals(number).name}"
    assert "Traceback" not in program.text
    assert not (tmp_path / "run").exists()


def test_while_an_environment_is_examined(vitx: Programs) -> None:
    program = vitx("doctor")
    program.reaches(lambda: "python" in program.text, what="the first of what it finds")
    program.signal(signal.SIGTERM)

    assert program.wait(timeout_s=10) == 75
    assert program.last_line == "vitx doctor: stopped by SIGTERM"
    assert "Traceback" not in program.text
    program.leaves_nothing()


@pytest.mark.slow
def test_while_runs_are_tortured(vitx: Programs, tmp_path: Path) -> None:
    folder = tmp_path / "torture"
    program = vitx("torture", "only=kill", "kills=100", f"folder={folder}")
    program.reaches(lambda: next(folder.rglob("run.json"), None), what="its first run")
    program.signal(signal.SIGTERM)

    assert program.wait(timeout_s=20) == 75
    assert program.last_line == "vitx torture: stopped by SIGTERM"
    assert "Traceback" not in program.text
    program.leaves_nothing()


@pytest.fixture
def standing() -> Iterator[StandBy]:
    """This process standing by for SIGUSR2."""
    stand_by = StandBy(" before training began")
    before = {number: signal.getsignal(number) for number in HANDLED}
    for number in HANDLED:
        signal.signal(number, stand_by)
    yield stand_by
    give_back(before)


def test_a_request_that_a_library_drops_is_heard_before_a_run_begins(standing: StandBy) -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(Stopped) as raised, StopRequest():
        pytest.fail("the run began")

    end = as_request(raised.value)
    assert isinstance(end, Preempted)
    assert str(end) == "stopped by SIGUSR2 before training began"


def test_a_request_that_a_library_makes_an_error_of_its_own_of(standing: StandBy) -> None:
    try:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            raise ImportError("numpy")  # noqa: B904 (as libraries do)
    except ImportError as error:
        end = as_request(error)
    assert isinstance(end, Interrupted)
    assert as_request(ImportError("numpy")) is None


def test_after_a_run_has_stopped_of_it_nothing_is_raised_again(standing: StandBy) -> None:
    with pytest.raises(Preempted, match="after step 1"), StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        raise stop.as_error("after step 1 of 2")


def test_after_a_run_it_stands_by_again(standing: StandBy) -> None:
    with pytest.raises(Paused), StopRequest() as stop:
        stop.ask("stop_at=1st")
        raise stop.as_error("after step 1 of 2")
    with pytest.raises(Stopped, match="stopped by SIGUSR1$"):
        signal.raise_signal(signal.SIGUSR1)


def test_the_second_one_ends_it_at_once() -> None:
    code = (
        "import contextlib, signal, time; from vitx.runtime.signals import StandBy\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "StandBy().begin()\n"
        "with contextlib.suppress(BaseException): signal.raise_signal(signal.SIGTERM)\n"
        "time.sleep(0.2)\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "finally: print('tidied up')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = "vitx: stopped at once by a second SIGINT; what was saved before is kept\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)


def test_while_the_interpreter_ends_a_signal_only_hastens_it() -> None:
    code = (
        "import atexit, signal, sys; from vitx.cli import main\n"
        "atexit.register(lambda: [signal.raise_signal(signal.SIGTERM), print('too late')])\n"
        "sys.argv = ['vitx', 'trian']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_is_forked_ends_as_any_other(standing: StandBy) -> None:
    if (pid := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_a_run_takes_over_and_gives_back(standing: StandBy) -> None:
    heard: list[int] = []
    before = take_over(lambda number, _: heard.append(number))
    signal.raise_signal(signal.SIGHUP)
    give_back(before)

    assert heard == [signal.SIGHUP]
    assert {signal.getsignal(number) for number in HANDLED} == {standing}
