"""The run directory itself: names, making, locking, finding, and files replaced in one step."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vitx.errors import RunInUseError, StorageError, UsageError
from vitx.files import read_json, write_json, write_text
from vitx.runs import RunDir, check_name, find_run, new_run_dir, now


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


HOLD = """
import pathlib, sys, vitx.runs
with vitx.runs.RunDir(pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_by_one_process_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for _ in range(2):
            with pytest.raises(RunInUseError, match=f"in use by process {holder.pid} on"):
                RunDir(tmp_path).locked().__enter__()
    finally:
        holder.kill()
        holder.communicate()

    with RunDir(tmp_path).locked():
        assert read_json(tmp_path / ".owner.json")["pid"] == os.getpid()
    assert not (tmp_path / ".owner.json").exists()


BEGIN = """
import pathlib, sys
from vitx.errors import RunInUseError
from vitx.runs import RunDir
import filelock
print("ready", flush=True)
sys.stdin.readline()
try:
    with RunDir(pathlib.Path(sys.argv[1])).locked():
        print("held", flush=True)
        sys.stdin.read()
except RunInUseError as error:
    print(error, flush=True)
"""


def test_of_several_that_begin_at_once_each_is_told_who_holds_it(tmp_path: Path) -> None:
    # What a killed one left, whose number nobody has.
    write_json(tmp_path / ".owner.json", {"pid": 2**22 + 1, "host": socket.gethostname()})
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for each in starters:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in starters:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        said = [each.stdout.readline() for each in starters if each.stdout]
    finally:
        for each in starters:
            each.kill()
            each.communicate()

    holder = starters[said.index("held\n")].pid
    told = [line for line in said if line != "held\n"]
    assert len(told) == 3
    assert all(f"is in use by process {holder} on" in line for line in told)


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunDir(tmp_path).locked():
        _ = 1 / 0

    with RunDir(tmp_path).locked():
        pass


def test_making_a_directory_makes_its_parents_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    made = RunDir(tmp_path / "a/b/c").make()

    assert made == (tmp_path / "a/b/c", tmp_path / "a/b", tmp_path / "a")
    assert list((tmp_path / "a/b/c").iterdir()) == []
    assert RunDir(tmp_path / "a/b/c").make() == ()


def test_hidden_files_do_not_make_a_directory_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    RunDir(tmp_path).make()
    (tmp_path / "notes.txt").touch()

    with pytest.raises(StorageError, match="holds files but no run"):
        RunDir(tmp_path).make()

    (tmp_path / "config.yaml").touch()
    RunDir(tmp_path).make()


def test_names_are_never_given_twice(runs: Path) -> None:
    paths = [new_run_dir("x").path for _ in range(3)]

    assert paths == [runs / "x", runs / "x-2", runs / "x-3"]


def test_names_are_never_given_twice_at_once(runs: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(new_run_dir("x").path)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 20


@pytest.mark.parametrize("name", ["xcit-digits", "mit Leerzeichen", "ünï", "a=b,c", "🦊", "a..b"])
def test_plain_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "/abs", "a\0b", "a\nb"])
def test_names_that_would_leave_the_folder_of_runs(name: str) -> None:
    with pytest.raises(UsageError, match="expected a plain file name"):
        check_name(name)


def start(path: Path, started: str) -> None:
    path.mkdir(parents=True)
    (path / "config.yaml").touch()
    write_json(path / "run.json", {"started": started})


def test_the_newest_run_is_found_by_what_it_says_not_by_its_files(runs: Path) -> None:
    start(runs / "old", "2026-01-01T00:00:00+00:00")
    start(runs / "sweeps/s/0-seed=0", "2026-03-01T00:00:00+00:00")
    start(runs / "zz", "2026-02-01T00:00:00+00:00")
    os.utime(runs / "old/run.json", (4e9, 4e9))

    assert find_run(None).path == runs / "sweeps/s/0-seed=0"
    assert find_run(str(runs / "old")).path == runs / "old"


def test_no_run_to_be_found(runs: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        find_run(None)
    with pytest.raises(UsageError, match="no run there"):
        find_run(str(runs / "typo"))


def test_times_sort_as_text() -> None:
    times = [now() for _ in range(50)]

    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)


def test_a_reader_never_meets_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"n": 0, "text": "x" * 100_000})
    done, seen = threading.Event(), set()

    def reader() -> None:
        while not done.is_set():
            seen.add(len(json.loads(path.read_text())["text"]))

    thread = threading.Thread(target=reader)
    thread.start()
    for number in range(100):
        write_json(path, {"n": number, "text": "x" * (100_000 + number % 2)})
    done.set()
    thread.join()

    assert seen == {100_000, 100_001}
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "größe\nπ\n")

    assert (tmp_path / "x").read_bytes() == "größe\nπ\n".encode()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")

    with pytest.raises(StorageError, match=r"run\.json"):
        RunDir(tmp_path).read_record()
    with pytest.raises(StorageError, match=r"gone\.json"):
        read_json(tmp_path / "gone.json")


def test_a_name_that_is_too_long_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the name is too long"):
        RunDir(tmp_path / ("x" * 300)).make()
