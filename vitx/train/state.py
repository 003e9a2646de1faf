"""Where a run stands: counters only, since everything random follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class TrainState:
    """Counters of a run.

    Attributes:
        step: optimizer steps done.
        samples: training samples seen.
        seconds: wall-clock seconds spent in training steps, over all interruptions.
        bad_rows: rows of the training split that could not be decoded.
        inexact: why the weights may be others than those of a run that nothing happened to.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    bad_rows: set[int] = field(default_factory=set)
    inexact: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain data."""
        return {**asdict(self), "bad_rows": sorted(self.bad_rows)}

    def load(self, saved: dict[str, Any]) -> None:
        """Take the counters over."""
        self.step, self.samples = int(saved["step"]), int(saved["samples"])
        self.seconds = float(saved["seconds"])
        self.bad_rows = set(saved["bad_rows"])
        self.inexact = list(saved.get("inexact", []))
