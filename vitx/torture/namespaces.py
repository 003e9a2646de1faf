"""A process that leaves what it shares with others: no network, a small disk, one it can't write.

Linux alone. Root does it by itself, anybody else in a user namespace, where that is allowed.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

# Of Linux' sched.h and mount.h.
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def leave(apart: dict[str, Any]) -> None:
    """Leave what is named, for this process and those that it will start.

    Args:
        apart: `network`: true; `tmpfs`: a folder and its size in bytes; `read_only`: a folder;
            `failing`: a file that answers with an input/output error.

    Raises:
        OSError: it is not allowed.
    """
    mounts = {"tmpfs", "read_only", "failing"} & set(apart)
    kinds = (_CLONE_NEWNS if mounts else 0) | (_CLONE_NEWNET if apart.get("network") else 0)
    if not kinds:
        return
    user, group = os.geteuid(), os.getegid()
    _call("unshare", kinds | (_CLONE_NEWUSER if user else 0))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if mounts:
        _mount(None, "/", _MS_REC | _MS_PRIVATE)
    if "tmpfs" in apart:
        folder, size = apart["tmpfs"]
        _mount("tmpfs", folder, 0, kind="tmpfs", options=f"size={size}")
    if "read_only" in apart:
        _mount(apart["read_only"], apart["read_only"], _MS_BIND)
        _mount(None, apart["read_only"], _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    if "failing" in apart:
        _mount("/proc/self/mem", apart["failing"], _MS_BIND)  # nothing is mapped at its start


def _mount(
    source: str | None, target: str, flags: int, *, kind: str | None = None, options: str = ""
) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), os.fsencode(options))


def _call(name: str, *args: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*args):
        number = ctypes.get_errno()
        raise OSError(number, f"no right to {name}: {os.strerror(number)}")
