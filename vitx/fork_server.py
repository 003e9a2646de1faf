"""Forks `vitx` processes out of one that holds the libraries already: 0.1 s each instead of 5.

Run as a program. Reads one JSON object a line: `{"args", "cwd", "env", "output", "stopped",
"apart"}` starts a process in a session of its own and answers its id, or why it can't be started;
`{"wait": pid}` answers its exit code or null.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

from vitx.cli import main
from vitx.config.store import compose
from vitx.runtime.signals import end_with_parent
from vitx.torture.namespaces import leave

_LIBRARIES = (
    "datasets",
    "timm.data",
    "timm.optim",
    "timm.scheduler",
    "timm.utils",
    "torchvision.transforms",
    "vitx.commands.eval",
    "vitx.commands.scoring",
    "vitx.commands.session",
    "vitx.commands.train",
)
_PR_SET_PTRACER, _ANY = 0x59616D61, -1  # of Linux' prctl.h


def serve() -> None:
    """Answer until there are no more questions."""
    _import_libraries()
    compose("train")  # Hydra looks for its plugins once
    gc.freeze()  # else every process copies all memory when it ends
    for line in sys.stdin:
        request = json.loads(line)
        answer = _wait(request["wait"]) if "wait" in request else _fork(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _import_libraries() -> None:
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()

    for name in _LIBRARIES:  # so that they are there before the fork
        importlib.import_module(name)


def _wait(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(request: dict[str, Any]) -> int | str:
    """Start a process; return its id, or why it can't be started."""
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        with open(read) as said:
            refused = said.read()
        if refused:
            os.waitpid(pid, 0)
        return refused or pid
    os.close(read)
    try:
        _settle(request)
    except OSError as error:
        os.write(write, str(error).encode())
        os._exit(1)
    os.close(write)
    if request["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    sys.argv = ["vitx", *request["args"]]
    sys.exit(main())  # ends as any interpreter does


def _settle(request: dict[str, Any]) -> None:
    """Be where the request says, apart from what it says, and end with the server."""
    end_with_parent()
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(_ANY), 0, 0, 0)  # whom Yama lets trace
    os.setsid()
    # Under nohup, or in the background of a script, they are ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    leave(request["apart"])
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


if __name__ == "__main__":
    serve()
