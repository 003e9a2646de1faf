"""Batches in the memory that loader processes share, and what the machine was short of."""

from __future__ import annotations

import errno
import os
import resource
import traceback
from multiprocessing.queues import Queue
from typing import Any

from torch.utils.data import get_worker_info

from vitx.data.samples import RawBatch, Sample, collate

_WITHOUT = "type dataset.workers=0, which needs none"
_REFUSED = {
    errno.EAGAIN: f"no further process is allowed (ulimit -u); {_WITHOUT}",
    errno.ENOMEM: f"there is no memory for a further process; {_WITHOUT}",
}


def collate_shared(samples: list[Sample]) -> RawBatch:
    """Return samples stacked; in a loader process, in shared memory."""
    # The queue would move them there as well, but in a thread that prints what goes wrong and
    # sends nothing: the other side would wait for a batch that never comes.
    batch = collate(samples)
    if get_worker_info() is not None:
        for tensor in (batch.images, batch.labels, batch.indices):
            tensor.share_memory_()
    return batch


def end_where_sending_fails(lack: Any) -> None:
    """Have this loader process end when a batch can't be sent, rather than be silent for ever.

    Args:
        lack: shared; takes the number of the operating system's error.
    """

    def end(error: Exception, _batch: object) -> None:
        lack.value = (error.errno or 0) if isinstance(error, OSError) else 0
        if not lack.value:
            traceback.print_exception(error)
        os._exit(1)

    # The thread that sends looks here when it begins, with the first batch.
    Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def shortage(error: Exception, lack: int = 0) -> str | None:
    """Return what the machine was short of, and what to type; None where it was something else.

    Args:
        error: as loader processes, or starting them, came to it.
        lack: what `end_where_sending_fails` took note of; 0 is nothing.
    """
    text = str(error)
    number = lack or (error.errno if isinstance(error, OSError) else 0)
    if number in (errno.EMFILE, errno.ENFILE) or any(
        sign in text for sign in ("Too many open files", "items of ancdata")
    ):
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"loader processes ran out of open files, of which {allowed} are allowed (ulimit -n); "
            f"type ulimit -n 4096 before it, or dataset.workers=0"
        )
    if number == errno.ENOSPC or "unable to" in text and "shared memory" in text:
        return (
            "loader processes ran out of shared memory (/dev/shm); type dataset.workers=0, or "
            "enlarge it: mount -o remount,size=2G /dev/shm, docker run --shm-size=2g"
        )
    return _REFUSED.get(number) if number else None
