"""sweep.json: what is written down survives full disks, other writers and strangers."""

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.train.programs import ROOT
from vitx.errors import RunInUseError, StorageError
from vitx.sweeps.folder import new_folder
from vitx.sweeps.ledger import Entry, Ledger, State, Sweep, run_dir_in
from vitx.sweeps.standing import STOPPED, look

NUMBER_OF_JOBS = 40


def begun(folder: Path, jobs: int = 3, **known: Any) -> Ledger:
    """Return a ledger with so many jobs that wait."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder)
    ledger.begin(
        Sweep(
            verb="train",
            argv=("-m", "seed=0,1,2"),
            typed_in=str(folder),
            started="2026-01-01",
            jobs=tuple(
                Entry(number=n, overrides=(f"seed={n}",), label=f"seed={n}", run_dir=f"{n}")
                for n in range(jobs)
            ),
            **known,
        )
    )
    return ledger


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.note(1, state=State.failed, exit_code=3, error="a bad picture")

    first, second, third = Ledger(tmp_path).read().jobs
    assert (first.state, third.state) == (State.waiting, State.waiting)
    assert (second.state, second.exit_code, second.error) == (State.failed, 3, "a bad picture")
    assert not stat.S_IMODE(ledger.file.stat().st_mode) & stat.S_IRWXO


_WRITER = """
import sys
from pathlib import Path
from vitx.sweeps.ledger import Ledger, State

ledger, first = Ledger(Path(sys.argv[1])), int(sys.argv[2])
sys.stdin.readline()
for number in range(first, {jobs}, 2):
    ledger.note(number, state=State.running)
    ledger.note(number, state=State.finished, outcome=f"of {{first}}")
"""


def test_two_processes_that_write_at_once_keep_all_rows(tmp_path: Path) -> None:
    begun(tmp_path, NUMBER_OF_JOBS)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER.format(jobs=NUMBER_OF_JOBS), str(tmp_path), str(first)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
        )
        for first in range(2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0

    jobs = Ledger(tmp_path).read().jobs
    assert {job.state for job in jobs} == {State.finished}
    assert [job.outcome for job in jobs] == [f"of {n % 2}" for n in range(NUMBER_OF_JOBS)]


def test_what_a_full_disk_refuses_is_written_with_the_next_change(
    tmp_path: Path,
) -> None:
    ledger = begun(tmp_path)
    before = ledger.file.read_bytes()
    with no_file_grows(), pytest.raises(StorageError, match="can't be written: File too large"):
        ledger.note(0, state=State.finished, exit_code=0)
    assert ledger.file.read_bytes() == before
    assert ledger.jobs()[0].state is State.finished  # as this process knows it

    ledger.note(1, state=State.running)
    assert [job.state for job in Ledger(tmp_path).read().jobs] == [
        State.finished,
        State.running,
        State.waiting,
    ]


@contextmanager
def no_file_grows() -> Iterator[None]:
    """Have the system refuse every byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_secrets_are_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef")
    ledger = begun(tmp_path)
    ledger.note(0, error="key 0123456789abcdef", label="x=https://me:word@host/")

    text = ledger.file.read_text()
    assert "0123456789abcdef" not in text
    assert "me:word" not in text
    assert "<SOME_API_KEY>" in text


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for name in path[:-1]:
            data = data[name]
        data[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("jobs", to=None),
        _set("jobs", to={"a": 1}),
        _set("jobs", to=[1]),
        _set("jobs", 0, "number", to=1),
        _set("jobs", 0, "number", to="0"),
        _set("jobs", 0, "overrides", to="seed=0"),
        _set("jobs", 0, "overrides", to=[1]),
        _set("jobs", 0, "state", to="done"),
        _set("jobs", 0, "state", to=[]),
        _set("jobs", 0, "state", to=None),
        _set("jobs", 0, "exit_code", to="0"),
        _set("jobs", 0, "run_dir", to=1),
        _set("jobs", 0, "run_dir", to="../../elsewhere"),
        _set("jobs", 0, "run_dir", to="a/../../b"),
        _set("jobs", 0, "label", to=None),
        _set("jobs", 0, "error", to={}),
        _set("argv", to="-m"),
        _set("argv", to=[None]),
        _set("typed_in", to=7),
        _set("started", to=1.5),
        _set("verb", to="recipe"),
        _set("verb", to=["train"]),
        lambda data: data.pop("jobs"),
        lambda data: data["jobs"][0].pop("state"),
    ],
)
def test_a_file_with_something_else_in_it_is_damaged(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    ledger = begun(tmp_path)
    data = json.loads(ledger.file.read_text())
    change(data)
    ledger.file.write_text(json.dumps(data))
    with pytest.raises(StorageError, match=r"sweep\.json"):
        look(Ledger(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"jobs": '])
def test_a_file_that_is_none_is_damaged(text: str, tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.file.write_text(text)
    with pytest.raises(StorageError, match=r"sweep\.json"):
        ledger.read()


def test_a_sweep_is_held_by_one_process(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    assert not ledger.is_held()
    with ledger.locked():
        assert ledger.is_held()
        with pytest.raises(RunInUseError), Ledger(tmp_path).locked():
            pass
    assert not ledger.is_held()


@pytest.mark.parametrize("name", [".lock", ".owner.json", ".ledger.lock"])
def test_a_lock_that_is_a_link_is_refused(name: str, tmp_path: Path) -> None:
    ledger = begun(tmp_path / "sweep")
    precious = tmp_path / "precious"
    precious.write_text("text")
    (ledger.folder / name).unlink(missing_ok=True)
    (ledger.folder / name).symlink_to(precious)
    with pytest.raises(StorageError, match="is a link"), ledger.locked():
        pass
    assert precious.read_text() == "text"


def test_a_job_that_nobody_runs_any_more_has_stopped(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.note(0, state=State.running)

    assert [each.state for each in look(ledger)] == [STOPPED, "waiting", "waiting"]
    assert [each.state for each in look(ledger, held=True)] == ["running", "waiting", "waiting"]
    assert all(each.is_due(failed=False) for each in look(ledger))


def test_refused_settings_are_due_where_that_is_asked_for(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.note(0, state=State.failed, exit_code=2)
    ledger.note(1, state=State.failed, exit_code=3)

    found = look(ledger)
    assert [each.is_due(failed=False) for each in found] == [False, True, True]
    assert all(each.is_due(failed=True) for each in found)


def test_two_sweeps_of_a_second_have_two_folders(tmp_path: Path) -> None:
    wanted = tmp_path / "sweeps" / "20260101T000000Z"
    names = [new_folder(wanted).name for _ in range(3)]
    assert names == [wanted.name, f"{wanted.name}-2", f"{wanted.name}-3"]


def test_a_run_elsewhere_keeps_its_whole_path(tmp_path: Path) -> None:
    assert run_dir_in(tmp_path / "sweep", tmp_path / "sweep/0") == "0"
    assert run_dir_in(tmp_path / "sweep", tmp_path / "else") == str(tmp_path / "else")
