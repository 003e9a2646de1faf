"""What every logger can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Logger(Protocol):
    """Takes the rows of one run in step order, each step once."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Take one row.

        Args:
            row: `step` (int), `epoch` (float), `samples` (int), `seconds` (float), then values by
                name, such as `train/loss`.
        """

    def flush(self) -> None:
        """Make the rows so far durable: a checkpoint that relies on them is about to be committed.

        Called by the thread that writes checkpoints, while others may be logging.
        """

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the log; nothing is logged after it.

        Args:
            status: `finished`, `failed` or `preempted`.
            summary: the final values by name.
        """
