"""What torchrun is told of how a rank ended, so that its summary names the right one.

It reads a file that a rank leaves, and takes the earliest of a machine's for the root cause, to the
second. A rank that was killed leaves none and counts from when that is noticed; so one that merely
met the consequence waits to be noticed later. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from vitx.errors import Preempted, RankLostError
from vitx.redaction import shown

_FILE = "TORCHELASTIC_ERROR_FILE"  # set by torchrun for each rank it starts
# torchrun looks ten times a second; what a rank does between failing and having ended takes longer.
_SEEN_WITHIN_S = 2


def leave_word(error: BaseException, text: str, code: int) -> None:
    """Tell torchrun how this rank ends; nothing happens in a process that it did not start.

    Args:
        error: the end.
        text: how a summary puts it.
        code: exit code of it.
    """
    if "RANK" not in os.environ or not (file := os.environ.get(_FILE)):
        return
    at, follows = int(time.time()), isinstance(error, RankLostError)
    if follows or isinstance(error, Preempted):  # torchrun itself asks the others to stop
        # Seconds are all that is compared: behind a cause of the same one, and of one not seen yet.
        at += _SEEN_WITHIN_S + 1
    extra = {"py_callstack": text, "timestamp": str(at)}
    message = {"message": shown(f"{type(error).__name__}: {error}"), "extraInfo": extra}
    with contextlib.suppress(OSError):
        Path(file).write_text(json.dumps({"message": message}))
    if follows:
        _wait(code)


def _wait(code: int) -> None:
    # By SIGTERM torchrun ends the others, once it has seen the cause.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
    time.sleep(_SEEN_WITHIN_S)
