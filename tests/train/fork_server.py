"""Forks `vitx` processes out of one that holds the libraries already: 0.1 s each instead of 5.

Run as a program. Reads one JSON object a line: `{"args", "cwd", "env", "output", "stopped"}` starts
a process in a session of its own and answers its id; `{"wait": pid}` answers its exit code or null.
"""

import gc
import json
import os
import signal
import sys
from typing import Any

from vitx.runtime.torchvision_ops import declare_missing_ops

declare_missing_ops()

import datasets  # noqa: E402, F401 (here and below: to have it before the fork)
import timm.data  # noqa: E402, F401
import timm.optim  # noqa: E402, F401
import timm.scheduler  # noqa: E402, F401
import timm.utils  # noqa: E402, F401
import torchvision.transforms  # noqa: E402, F401

import vitx.commands.eval  # noqa: E402, F401
import vitx.commands.scoring  # noqa: E402, F401
import vitx.commands.session  # noqa: E402, F401
import vitx.commands.train  # noqa: E402, F401
from vitx.cli import main  # noqa: E402
from vitx.config.store import compose  # noqa: E402


def serve() -> None:
    compose("train")  # Hydra looks for its plugins once
    gc.freeze()  # else every process copies all memory when it ends
    for line in sys.stdin:
        request = json.loads(line)
        answer = wait(request["wait"]) if "wait" in request else fork(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def wait(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def fork(request: dict[str, Any]) -> int:
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if request["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(main(request["args"]))  # ends as any interpreter does


if __name__ == "__main__":
    serve()
