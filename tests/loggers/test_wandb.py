"""The mirror, with W&B's own client against a server on the loopback interface."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.loggers.wandb_stub import WandbStub
from vitx.config.schema import WandbConfig, WandbMode
from vitx.loggers.base import Logger
from vitx.loggers.jsonl import JsonlLogger, read_rows
from vitx.loggers.wandb import start_wandb

KEY = "0123456789abcdef" * 3


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a login; at the end no process that was started from it may be left."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"
    deadline = time.monotonic() + 10
    while processes(tmp_path / "home") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(tmp_path / "home") == []


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def log_in(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def start(run_dir: Path, mode: str, *, resumed: bool = False, **limits: int) -> Any:
    config = WandbConfig(
        mode=WandbMode(mode), **{"init_timeout_s": 10, "finish_timeout_s": 20} | limits
    )
    return start_wandb(
        config,
        run_dir=run_dir,
        run_name="a name",
        group="a sweep",
        plain_config={"model": {"name": "vit"}, "seed": 3},
        wandb_id="id123",
        resumed=resumed,
    )


def log(logger: Logger, steps: range) -> None:
    for step in steps:
        logger.log({"step": step, "epoch": step / 10, "train/loss": 1 / (step + 1)})


def processes(home: Path) -> list[str]:
    """Command lines of the live processes that were started with this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # another user's, or gone
    return found


def upload(run_dir: Path) -> WandbStub:
    """Upload the offline files with W&B's own command, and return what the server got."""
    with WandbStub() as server:
        environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        files = sorted((run_dir / "wandb").glob("offline-run-*-id123"))
        command = [sys.executable, "-m", "wandb", "sync", *map(str, files)]
        # The command makes a folder `wandb` where it is called.
        done = subprocess.run(command, env=environment, cwd=run_dir.parent, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    return server


def assert_complete(server: WandbStub, steps: range) -> None:
    assert server.steps == list(steps)
    assert [row["train/loss"] for row in server.rows] == [1 / (step + 1) for step in steps]
    assert server.run["name"] == "id123"
    assert server.run["displayName"] == "a name"
    assert server.run["groupName"] == "a sweep"
    assert server.run["project"] == "vitx"
    config = json.loads(server.run["config"])
    assert config["model"]["value"] == {"name": "vit"} and config["seed"]["value"] == 3


def test_without_a_login_it_is_offline_and_can_be_uploaded(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror, line = start(run_dir, "auto")
    assert line.startswith("W&B offline (no login found; `wandb login`")
    assert f"`wandb sync {run_dir}/wandb/offline-run-*-id123` uploads them" in line
    log(mirror, range(30))
    mirror.finish("finished", {"top1": 81.5})
    assert capfd.readouterr() == ("", "")

    server = upload(run_dir)
    assert_complete(server, range(30))
    assert server.summary["top1"] == 81.5 and server.summary["step"] == 29


def test_a_login_in_netrc_is_online(
    run_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with WandbStub() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        host = server.url.removeprefix("http://")
        (home / ".netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
        (home / ".netrc").chmod(0o600)
        mirror, line = start(run_dir, "auto")
        assert line == f"W&B online: {server.url}/team/vitx/runs/id123"
        log(mirror, range(30))
        mirror.log({"step": 30, "epoch": 3.0, "train/loss": 1 / 31, "val/loss": float("inf")})
        mirror.flush()
        mirror.finish("finished", {"top1": 81.5})
    assert_complete(server, range(31))
    assert server.summary["top1"] == 81.5
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "connection refused"),
        (0, "deadline exceeded"),
        (401, "returned error 401"),
        pytest.param(500, "HTTP 500", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_fails_means_offline_with_the_reason(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, reason: str
) -> None:
    with WandbStub({"/graphql": status or 0}) as server:
        log_in(monkeypatch, "http://127.0.0.1:1" if status is None else server.url)
        before_s = time.monotonic()
        mirror, line = start(run_dir, "online", init_timeout_s=1)
        waited_s = time.monotonic() - before_s
        log(mirror, range(5))
        mirror.finish("failed", {})
    assert line.startswith("W&B offline (") and reason in line
    assert KEY not in line
    assert waited_s < 10
    if status is None:  # an upload takes seconds
        assert_complete(upload(run_dir), range(5))
    # What the attempt left is not uploaded besides.
    assert len(list(run_dir.glob("wandb/*/*.wandb"))) == 1


def test_a_bad_key_means_offline_and_is_not_repeated(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "tooshort-canary")
    mirror, line = start(run_dir, "online")
    mirror.finish("finished", {})
    assert line.startswith("W&B offline (") and "40" in line and "canary" not in line


def test_a_server_that_stalls_later_delays_nothing_but_the_end(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with WandbStub({"/file_stream": 0}) as server:
        log_in(monkeypatch, server.url)
        mirror, line = start(run_dir, "online", finish_timeout_s=3)
        assert line.startswith("W&B online")
        before_s = time.monotonic()
        log(mirror, range(2000))
        logged_s = time.monotonic() - before_s
        mirror.finish("finished", {})
        finished_s = time.monotonic() - before_s - logged_s
    assert logged_s < 1
    assert 1 < finished_s < 4.5
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "`wandb sync " in error


@pytest.mark.slow
def test_a_key_revoked_during_the_run_is_told_at_the_end(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with WandbStub() as server:
        log_in(monkeypatch, server.url)
        mirror, _ = start(run_dir, "online")
        server.fault["/"] = 401
        log(mirror, range(20))
        mirror.finish("finished", {})
    error = capfd.readouterr().err
    assert error.startswith("vitx: W&B WARNING Fatal error while uploading data.")
    assert error.count("\n") == 1


def test_two_mirrors_never_share_a_folder(run_dir: Path) -> None:
    first, _ = start(run_dir, "offline")
    second, line = start(run_dir, "offline", init_timeout_s=1)
    first.finish("finished", {})
    assert second is None
    assert line == "W&B off: the mirror of a stopped run is still uploading"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_hangs_ends_only_the_mirror(
    run_dir: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    mirror, _ = start(run_dir, "offline", finish_timeout_s=1)
    os.kill(mirror._process.pid, number)
    before_s = time.monotonic()
    for step in range(3000):
        mirror.log({"step": step, "text": "x" * 10_000})
    mirror.finish("finished", {})
    assert time.monotonic() - before_s < 5
    error = capfd.readouterr().err
    assert error.startswith("vitx: W&B stopped, the run goes on without it")
    assert error.count("\n") == 1


def test_off_starts_nothing(run_dir: Path) -> None:
    assert start(run_dir, "off") == (None, "W&B off: logger.wandb.mode=off")
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize(("word", "begin"), [("disabled", "W&B off"), ("offline", "W&B offline")])
def test_auto_obeys_the_environment_of_wandb(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, word: str, begin: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", word)
    mirror, line = start(run_dir, "auto")
    assert line.startswith(begin) and f"WANDB_MODE={word}" in line
    if mirror:
        mirror.finish("finished", {})


def test_without_the_client_it_is_off(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), "/nowhere"])
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # type: ignore[attr-defined]
    mirror, line = start(run_dir, "auto")
    assert mirror is None
    assert line == "W&B off: No module named 'wandb'"


def test_a_folder_that_can_not_be_written_means_off(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    mirror, line = start(tmp_path / "run", "offline")
    assert mirror is None and line.startswith("W&B off: ")


def test_the_training_process_is_as_it_was(run_dir: Path) -> None:
    def state() -> list[Any]:
        return [
            random.getstate(),
            str(np.random.get_state()),  # noqa: NPY002
            torch.get_rng_state().tolist(),
            [signal.getsignal(number) for number in signal.valid_signals()],
            (sys.exit, sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
            threading.enumerate(),
            dict(os.environ),
            os.getcwd(),
            sorted(os.listdir("/proc/self/fd")),
        ]

    before = state()
    mirror, _ = start(run_dir, "auto")
    log(mirror, range(10))
    mirror.finish("finished", {"top1": 1.0})
    for was, now in zip(before, state(), strict=True):
        assert now == was


TRAINING = """
import os, signal, sys
from pathlib import Path
from vitx.config.schema import WandbConfig, WandbMode
from vitx.loggers.wandb import start_wandb
mirror, _ = start_wandb(WandbConfig(mode=WandbMode.offline), run_dir=Path(sys.argv[1]),
    run_name="a name", group="a sweep", plain_config={"model": {"name": "vit"}, "seed": 3},
    wandb_id="id123", resumed=False)
for step in range(50):
    mirror.log({"step": step, "train/loss": 1 / (step + 1)})
assert "wandb" not in sys.modules
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_all_its_rows(run_dir: Path, home: Path) -> None:
    command = [sys.executable, "-c", TRAINING, run_dir, "--token=canary-in-argv"]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 15
    while processes(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert_complete(upload(run_dir), range(50))
    assert not [f for f in run_dir.rglob("*") if f.is_file() and b"canary" in f.read_bytes()]


def test_resumed_offline_uploads_each_row_once(run_dir: Path) -> None:
    # Files that were closed, then files torn by the end of the machine, then the end of the run.
    for kept, last, end in [(-1, 11, "closed"), (8, 19, "torn"), (14, 24, "closed")]:
        rows = JsonlLogger(run_dir / "metrics.jsonl", keep_to_step=kept)
        mirror, _ = start(run_dir, "offline", resumed=kept >= 0)
        for logger in (rows, mirror):
            log(logger, range(kept + 1, last + 1))
        if end == "torn":
            os.kill(mirror._process.pid, signal.SIGKILL)
        for logger in (rows, mirror):
            logger.finish("preempted", {})
    assert [row["step"] for row in read_rows(run_dir / "metrics.jsonl")] == list(range(25))
    assert_complete(upload(run_dir), range(25))


def test_resumed_online_sends_what_the_server_lacks(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = JsonlLogger(run_dir / "metrics.jsonl", keep_to_step=-1)
    log(rows, range(15))
    rows.finish("preempted", {})
    with WandbStub() as server:
        log_in(monkeypatch, server.url)
        first, _ = start(run_dir, "online")
        log(first, range(10))  # rows 10 to 14 never arrive
        first.finish("failed", {})
        assert server.steps == list(range(10))
        second, _ = start(run_dir, "online", resumed=True)
        log(second, range(15, 20))
        second.finish("finished", {})
    assert_complete(server, range(20))


def test_no_secret_reaches_the_run_directory(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WandbStub() as server:
        log_in(monkeypatch, server.url)
        monkeypatch.setenv("WANDB_API_KEY", "canary" + KEY)
        for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_PASSWORD"):
            monkeypatch.setenv(name, "canary" + name)
        monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@127.0.0.1:1")
        mirror, line = start(run_dir, "online")
        assert line.startswith("W&B online")
        log(mirror, range(3))
        mirror.finish("finished", {})
    files = [file for file in run_dir.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    assert not [file for file in files if b"canary" in file.read_bytes()]
    assert "canary" not in json.dumps(server.run)
