"""The other side of the W&B mirror's pipe: a process that runs the W&B client.

Reads JSON lines: the job, then rows, then the finish; the end of the pipe without a finish means
that the run was killed. Answers with JSON lines. Only the standard library is imported before the
job is known.

`wandb/mirror.json` in the run directory says which of W&B's files were closed and up to which step
they and the server have rows, so that a resumed run sends each row once. A file that was not
closed lacks rows in its middle; it is set aside and its rows are sent again from metrics.jsonl.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vitx.loggers.jsonl import read_rows

if TYPE_CHECKING:
    from wandb import Run, Settings

_EXIT_CODES = {"finished": 0, "failed": 1, "preempted": 75}


def main() -> None:
    """Mirror one run, from the job on stdin to the end of stdin."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides; the end of the pipe says so
    reply = _take_stdout()
    messages = _read_messages()
    job = next(messages)
    folder = Path(job["run_dir"]) / "wandb"
    try:
        run, has_step = _start(job, folder)
        # Read before the answer: what the run appends from then on comes through the pipe.
        lacks = _rows_after(has_step, job)
    except Exception as error:
        hopeless = isinstance(error, ImportError | _BusyError)
        reply({"error": _reason(error), "offline_may_work": not hopeless})
        _leave()
    reply({"ready": True, "url": None if run.offline else run.url})
    try:
        for row in lacks:
            run.log(row)
            has_step = row["step"]
        reply(_mirror(run, messages, folder, has_step))
    except Exception as error:
        traceback.print_exc()
        reply({"error": f"{_reason(error)}; see {folder / 'mirror.log'}"})
    _leave()


def _take_stdout() -> Callable[[dict[str, Any]], None]:
    """Keep stdout for the answers; what the client prints there goes to the log."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the run is gone
            answers.write(json.dumps(message).encode() + b"\n")

    return reply


def _read_messages() -> Iterator[dict[str, Any]]:
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):  # else the run was killed while it wrote
            yield json.loads(line)


def _start(job: dict[str, Any], folder: Path) -> tuple[Run, int | None]:
    """Start the client.

    Args:
        job: what `start_wandb` asks for.
        folder: the folder of W&B's files.

    Returns:
        The W&B run, and the step up to which it has rows of this run; None is none.

    Raises:
        ModuleNotFoundError: the client is not installed.
        _BusyError: another mirror has this folder.
    """
    import wandb

    if not hasattr(wandb, "init"):  # a folder `wandb` on the path is not the package
        raise ModuleNotFoundError("No module named 'wandb'")
    before_s = time.monotonic()
    _lock(folder, job["init_timeout_s"])
    waited_s = time.monotonic() - before_s
    past = _read_record(folder)
    _set_aside_torn_files(folder, job["init"]["id"], past["closed"])
    run = wandb.init(
        mode=job["mode"],
        dir=job["run_dir"],
        resume="allow",
        settings=_settings(job, max(1.0, job["init_timeout_s"] - waited_s)),
        **job["init"],
    )
    run.define_metric("*", step_metric="step")
    return run, _step_that_it_has(run, past) if job["resumed"] else None


def _rows_after(has_step: int | None, job: dict[str, Any]) -> list[dict[str, Any]]:
    if not job["resumed"]:
        return []
    rows = read_rows(Path(job["run_dir"]) / "metrics.jsonl")
    return [row for row in rows if has_step is None or row["step"] > has_step]


def _settings(job: dict[str, Any], init_timeout_s: float) -> Settings:
    """Keep to metrics: no argv, host, packages, git, code, console or system statistics."""
    from wandb import Settings

    return Settings(
        init_timeout=init_timeout_s,
        finish_timeout=job["finish_timeout_s"],
        finish_timeout_raises=True,
        console="off",
        silent=True,
        symlink=False,
        program="vitx",
        host="",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        label_disable=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        # The stop button of the web page would interrupt this process, not the run.
        stop_fn=lambda: None,
    )


def _step_that_it_has(run: Run, past: dict[str, Any]) -> int | None:
    """Return the last step on the server, or in closed files that are yet to be uploaded."""
    # What an online mirror could not upload is not counted where the server itself can be asked.
    there = past["online"] if run.offline else dict(run.summary).get("step")
    steps = (past["offline"], there)
    return max((int(step) for step in steps if step is not None), default=None)


def _mirror(
    run: Run, messages: Iterator[dict[str, Any]], folder: Path, has_step: int | None
) -> dict[str, Any]:
    """Log rows until the finish or the end of the pipe, then end the client."""
    import wandb

    log_start = (folder / "mirror.log").stat().st_size
    first_new = -1 if has_step is None else has_step + 1
    last: dict[str, Any] = {"finish": "failed", "summary": {}}
    for message in messages:
        if "row" not in message:
            last = message
            break
        if message["row"]["step"] >= first_new:
            run.log(message["row"])
            has_step = message["row"]["step"]
    run.summary.update(last["summary"])
    if last["finish"] == "preempted":
        run.mark_preempting()
    offline, files = run.offline, Path(run.settings.sync_dir)
    reply: dict[str, Any] = {"done": True}
    try:
        run.finish(exit_code=_EXIT_CODES[last["finish"]])
    except TimeoutError:
        reply["error"] = f"took too long to upload; `wandb sync {files}` uploads the rest"
    wandb.teardown()
    _write_record(folder, files.name, "offline" if offline else "online", has_step)
    if complaint := _complaint(folder / "mirror.log", log_start):
        reply.setdefault("error", complaint)
    return reply


class _BusyError(Exception):
    """Another mirror has the folder."""


def _lock(folder: Path, patience_s: float) -> None:
    """Keep other mirrors out of the folder for as long as this process lives."""
    descriptor = os.open(folder / "mirror.lock", os.O_CREAT | os.O_RDWR, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _BusyError("the mirror of a stopped run is still uploading") from None
            time.sleep(0.1)


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {"closed": [], "offline": None, "online": None}
    with contextlib.suppress(OSError, ValueError):
        record |= json.loads((folder / "mirror.json").read_text())
    return record


def _write_record(folder: Path, closed: str, mode: str, step: int | None) -> None:
    record = _read_record(folder)
    record["closed"].append(closed)
    if step is not None:
        record[mode] = step
    temporary = folder / "mirror.json.tmp"
    temporary.write_text(json.dumps(record))
    temporary.replace(folder / "mirror.json")


def _set_aside_torn_files(folder: Path, wandb_id: str, closed: list[str]) -> None:
    for file in folder.glob(f"*run-*-{wandb_id}/*.wandb"):
        if file.parent.name not in closed:
            file.rename(file.with_suffix(".wandb.torn"))


def _complaint(log: Path, start: int) -> str | None:
    """Return the first warning or error that the client printed since `start` bytes."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    marks = ("wandb: WARNING ", "wandb: ERROR ")
    return next((line.removeprefix("wandb: ") for line in lines if line.startswith(marks)), None)


def _reason(error: Exception) -> str:
    if "No API key configured" in str(error):
        return "no login found; `wandb login` makes one"
    return str(error) or type(error).__name__


def _leave() -> NoReturn:
    """End at once: the client's exit handlers could wait for a server."""
    if wandb := sys.modules.get("wandb"):
        with contextlib.suppress(Exception):
            wandb.teardown()
    os._exit(0)


if __name__ == "__main__":
    main()
