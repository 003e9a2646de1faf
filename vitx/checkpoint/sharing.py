"""A snapshot that one rank read, on all of them."""

from __future__ import annotations

from typing import Any

from vitx.checkpoint.snapshot import Snapshot
from vitx.runtime.world import World


def shared(snapshot: Snapshot | None, world: World) -> Snapshot | None:
    """Return on every rank the snapshot that rank 0 has; the others give None."""
    if world.size == 1:
        return snapshot

    def head() -> dict[str, Any] | None:
        if snapshot is None:
            return None
        return {"step": snapshot.step, "state": snapshot.state, "files": sorted(snapshot.tensors)}

    told = world.first(head)
    if told is None:
        return None
    files = snapshot.tensors if snapshot is not None else {}
    tensors = {name: world.share(files.get(name)) for name in told["files"]}
    return Snapshot(step=told["step"], tensors=tensors, state=told["state"])
