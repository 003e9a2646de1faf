from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitx.errors import StorageError
from vitx.loggers.jsonl import JsonlLogger, read_rows


def write(path: Path, steps: range, *, keep_to_step: int = -1) -> None:
    logger = JsonlLogger(path, keep_to_step=keep_to_step)
    for step in steps:
        logger.log({"step": step, "train/loss": 1 / (step + 3)})
    logger.finish("finished", {})


def steps_of(path: Path) -> list[int]:
    return [row["step"] for row in read_rows(path)]


def test_every_line_is_strict_json_and_every_float_exact(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 1e-310, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53 + 2, 1e22]
    logger = JsonlLogger(tmp_path / "m.jsonl", keep_to_step=-1)
    for step, value in enumerate([*values, math.inf, -math.inf, math.nan]):
        logger.log({"step": step, "x": value, "nested": {"list": [value]}})
    logger.finish("finished", {})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    for line in (tmp_path / "m.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    rows = read_rows(tmp_path / "m.jsonl")
    assert [row["x"].hex() for row in rows[: len(values)]] == [value.hex() for value in values]
    assert [row["x"] for row in rows[-3:-1]] == [math.inf, -math.inf]
    assert math.isnan(rows[-1]["x"]) and math.isnan(rows[-1]["nested"]["list"][0])


def test_a_value_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "m.jsonl", keep_to_step=-1)
    with pytest.raises(TypeError):
        logger.log({"step": 0, "x": object()})
    logger.finish("failed", {})
    assert read_rows(tmp_path / "m.jsonl") == []


def test_a_row_is_there_for_readers_at_once(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "m.jsonl", keep_to_step=-1)
    assert steps_of(tmp_path / "m.jsonl") == []
    logger.log({"step": 7})
    assert steps_of(tmp_path / "m.jsonl") == [7]
    logger.finish("finished", {})


def test_no_file_yet_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "m.jsonl") == []


@pytest.mark.parametrize(
    "torn",
    [b"", b'{"step":', b'{"step":4', b'{"step":40}', b"\0\0\0\n", b'{"step":"4"}\n', b"[" * 9**5],
)
def test_resume_removes_what_is_written_again(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(40))
    kept = path.read_bytes().splitlines(keepends=True)[:26]
    with path.open("ab") as file:
        file.write(torn)
    assert steps_of(path) == list(range(40))

    write(path, range(26, 50), keep_to_step=25)

    assert steps_of(path) == list(range(50))
    assert path.read_bytes().splitlines(keepends=True)[:26] == kept
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_a_fresh_start_removes_everything(tmp_path: Path) -> None:
    write(tmp_path / "m.jsonl", range(3))
    write(tmp_path / "m.jsonl", range(2))
    assert steps_of(tmp_path / "m.jsonl") == [0, 1]


def test_a_row_lost_in_the_middle_is_never_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(10))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"\0" * 20 + b"\n", *lines[5:]]))
    damaged = path.read_bytes()

    with pytest.raises(StorageError, match="line 5 "):
        read_rows(path)
    logger = JsonlLogger(path, keep_to_step=8)
    logger.finish("finished", {})
    assert logger.found.bad_line == 5
    assert logger.found.kept == {0, 1, 2, 3, 5, 6, 7, 8}
    assert logger.found.removed == {9}
    assert steps_of(path) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (tmp_path / "m.jsonl.damaged").read_bytes() == damaged

    path.write_bytes(damaged)
    write(path, range(4, 6), keep_to_step=3)
    assert steps_of(path) == list(range(6))
    assert (tmp_path / "m.jsonl.damaged1").read_bytes() == damaged


ATTEMPT = """
import os, signal, sys
from pathlib import Path
from vitx.loggers.jsonl import JsonlLogger
path, kept, die_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
logger = JsonlLogger(path, keep_to_step=kept)
for step in range(kept + 1, 30):
    logger.log({"step": step})
    if step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_step_once_across_kills(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    codes = [
        subprocess.run([sys.executable, "-c", ATTEMPT, path, str(kept), str(die_at)]).returncode
        for kept, die_at in [(-1, 3), (-1, 9), (7, 8), (7, 25), (20, 99)]
    ]
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert steps_of(path) == list(range(30))


FULL = """
import resource, sys
from pathlib import Path
from vitx.errors import StorageError
from vitx.loggers.jsonl import JsonlLogger
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
logger = JsonlLogger(Path(sys.argv[1]), keep_to_step=-1)
try:
    for step in range(100):
        logger.log({"step": step})
        logger.flush()
except StorageError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_the_rows_before_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert done.stdout.startswith(f"{path} has to be") and done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert steps_of(path) == list(range(len(steps_of(path)))) != []


def test_rows_that_found_no_room_follow_when_there_is_some(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    logger = JsonlLogger(path, keep_to_step=-1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25, before[1]))  # two rows and a half
    try:
        for step in range(5):
            logger.log({"step": step})
        with pytest.raises(StorageError, match="File too large"):
            logger.flush()
        assert steps_of(path) == [0, 1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    logger.log({"step": 5})
    logger.finish("finished", {})

    assert steps_of(path) == [0, 1, 2, 3, 4, 5]
    assert path.read_bytes().count(b"\n") == 6
