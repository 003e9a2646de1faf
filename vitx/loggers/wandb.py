"""The W&B mirror: it can neither stop, slow nor change a run.

The client does not run in the training process, where it would replace `sys.exit` and the
exception hook, register exit handlers and wait for the network. It runs in a process of its own
(`vitx.loggers.wandb_process`), which gets the rows through a pipe that is never waited for. What
goes wrong there ends the mirror with one line on stderr; metrics.jsonl goes on. When the training
process is killed the pipe ends, and the mirror saves or uploads what it has and ends too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from vitx.config.schema import WandbConfig, WandbMode
from vitx.loggers.base import Logger
from vitx.redaction import redacted, shown

_STARTUP_S = 20.0  # to import the client from a cold network disk, besides init_timeout_s
_EXIT_S = 2.0
_BACKLOG_BYTES = 16 * 2**20


def start_wandb(
    config: WandbConfig,
    *,
    run_dir: Path,
    run_name: str,
    group: str | None,
    plain_config: dict[str, Any],
    wandb_id: str,
    resumed: bool,
) -> tuple[Logger | None, str]:
    """Start the mirror, as far online as it gets.

    A login is what the W&B client itself finds: `WANDB_API_KEY`, netrc or its settings. Without
    one, or where the server can't be reached in `init_timeout_s`, the mirror is offline. Mode auto
    obeys `WANDB_MODE`; the other modes go before it.

    Args:
        config: mode, project, entity and time limits.
        run_dir: the run directory; W&B's files go to its folder `wandb`.
        run_name: the name shown by W&B.
        group: the W&B group; null is none.
        plain_config: the resolved configuration as plain data, shown by W&B.
        wandb_id: the id that stays with the run directory.
        resumed: whether the run goes on from a checkpoint. W&B then gets the rows of
            metrics.jsonl that it lacks, and none that it has.

    Returns:
        The mirror, or None where it is off, and a line for the user: which mode, and why.
    """
    mode, reason = _wanted(config.mode)
    if mode is WandbMode.off:
        return None, f"W&B off: {reason}"
    job = {
        "init_timeout_s": config.init_timeout_s,
        # The client gives up first: then it still closes its file, and `wandb sync` can go on.
        "finish_timeout_s": config.finish_timeout_s - min(5.0, config.finish_timeout_s / 2),
        "run_dir": str(run_dir.absolute()),
        "resumed": resumed,
        "init": {
            "project": config.project,
            "entity": config.entity,
            "name": run_name,
            "group": group,
            "id": wandb_id,
            "config": plain_config,
        },
    }
    try:
        if mode is WandbMode.online:
            mirror = _WandbMirror(config, job | {"mode": "online"}, run_dir)
            if mirror.reply.get("ready"):
                return mirror, f"W&B online: {mirror.reply['url']}"
            reason = mirror.reply["error"]
            if not mirror.reply.get("offline_may_work"):
                return None, f"W&B off: {reason}"
        mirror = _WandbMirror(config, job | {"mode": "offline"}, run_dir)
    except Exception as error:
        return None, f"W&B off: {_one_line(error)}"
    if not mirror.reply.get("ready"):
        return None, f"W&B off: {mirror.reply['error']}"
    folder = run_dir / "wandb"
    upload = f"wandb sync {shlex.quote(str(folder))}/offline-run-*-{wandb_id}"
    return mirror, f"W&B offline ({reason}): files in {folder}, `{upload}` uploads them"


def _wanted(mode: WandbMode) -> tuple[WandbMode, str]:
    """Return online, offline or off, and why."""
    if mode is not WandbMode.auto:
        return mode, f"logger.wandb.mode={mode.value}"
    match os.environ.get("WANDB_MODE"):
        case "disabled":
            return WandbMode.off, "WANDB_MODE=disabled"
        case "offline" | "dryrun" as word:
            return WandbMode.offline, f"WANDB_MODE={word}"
        case _:
            return WandbMode.online, ""


class _WandbMirror:
    """This side of the pipe. No method raises or waits, but `finish` for its time limit."""

    def __init__(self, config: WandbConfig, job: dict[str, Any], run_dir: Path) -> None:
        """Start the process and wait for its answer, which is kept in `reply`."""
        self._finish_timeout_s = config.finish_timeout_s
        self._unsent = bytearray()
        self._received = bytearray()
        self._process: subprocess.Popen[bytes] | None = _spawn(run_dir)
        self._to = cast("IO[bytes]", self._process.stdin)
        self._from = cast("IO[bytes]", self._process.stdout)
        self.reply = self._ask(job, config.init_timeout_s + _STARTUP_S) or {
            "error": f"its client did not start; see {run_dir / 'wandb' / 'mirror.log'}"
        }
        if not self.reply.get("ready"):
            self._reap(_EXIT_S)

    def log(self, row: Mapping[str, Any]) -> None:
        """Queue one row for W&B."""
        self._send({"row": dict(row)})

    def flush(self) -> None:
        """Do nothing: metrics.jsonl is what a resumed run relies on."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Let W&B upload or save the rest, for `finish_timeout_s` at most."""
        if self._process is None:
            return
        reply = self._ask({"finish": status, "summary": dict(summary)}, self._finish_timeout_s) or {
            "error": f"did not end in {self._finish_timeout_s} s; see mirror.log among its files"
        }
        self._reap(_EXIT_S if "done" in reply else 0.0)
        if "error" in reply:
            _warn(reply["error"])

    def _send(self, message: dict[str, Any]) -> None:
        """Write what the pipe takes now; the rest waits here for the next message."""
        if self._process is None:
            return
        try:
            self._write(message, deadline=0.0)
        except Exception as error:
            reply = self._next_reply(0.0) or {"error": f"its client is gone ({error})"}
            self._reap(0.0)
            _warn(f"stopped, the run goes on without it: {reply['error']}")

    def _ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """Send a message and return its answer, or None where none comes in time, or ever."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):  # a process that ended may have said why
            self._write(message, deadline)
        return self._next_reply(deadline)

    def _write(self, message: dict[str, Any], deadline: float) -> None:
        self._unsent += json.dumps(message, default=str).encode() + b"\n"
        while self._unsent:
            try:
                del self._unsent[: os.write(self._to.fileno(), self._unsent)]
            except BlockingIOError:
                if (left_s := deadline - time.monotonic()) <= 0:
                    break
                select.select([], [self._to], [], left_s)
        if len(self._unsent) > _BACKLOG_BYTES:
            raise RuntimeError("its client takes no more rows")

    def _next_reply(self, deadline: float) -> dict[str, Any] | None:
        while b"\n" not in self._received:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._from], [], [], left_s)[0]:
                return None
            part = os.read(self._from.fileno(), 65536)
            if not part:
                return None
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            reply["error"] = _one_line(reply["error"])
        return reply

    def _reap(self, patience_s: float) -> None:
        """Wait for the process, then kill it; wandb-core ends when it misses its client."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._to.close()
        self._from.close()


def _spawn(run_dir: Path) -> subprocess.Popen[bytes]:
    folder = run_dir / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        # Both would put the run elsewhere: into another's client, or under a sweep's own id.
        if name not in ("WANDB_SERVICE", "WANDB_SWEEP_ID")
    }
    environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment.setdefault("WANDB_ERROR_REPORTING", "false")
    with (folder / "mirror.log").open("ab") as log:
        # A fixed argv, and a session of its own: Ctrl-C in the terminal is for the run alone.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "vitx.loggers.wandb_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
    os.set_blocking(cast("IO[bytes]", process.stdin).fileno(), False)
    return process


def _one_line(message: object) -> str:
    """Return the start of a message on one line, without what could be a secret."""
    text = redacted(" ".join(str(message).split()))
    return text if len(text) <= 240 else text[:237] + "..."


def _warn(message: str) -> None:
    print(shown(f"vitx: W&B {message}"), file=sys.stderr, flush=True)
