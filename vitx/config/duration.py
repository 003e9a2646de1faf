"""Durations: `300ep`, `10000st`, `5%`. Read here, converted to steps once, and never seen again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitx.errors import UsageError

_FORM = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>ep|st|%)?")


@dataclass(frozen=True)
class Duration:
    """A length of training in epochs (`ep`), optimizer steps (`st`) or percent of the run (`%`)."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str, *, setting: str) -> Duration:
        """Read a duration; a bare number is epochs.

        Args:
            text: such as `300ep`, `0.5ep`, `10000st`, `5%` or `300`.
            setting: name of the setting, for the error.

        Returns:
            The duration.

        Raises:
            UsageError: the text is no duration.

        >>> warmup = Duration.parse("5%", setting="schedule.warmup")
        >>> warmup.steps(steps_per_epoch=10, total_steps=200)
        10
        """
        match = _FORM.fullmatch(str(text).strip())
        if match is None:
            raise UsageError(
                f"{setting}={text}: expected a duration such as 10ep (epochs), 500st (steps) or 5%"
            )
        amount, unit = float(match["amount"]), match["unit"] or "ep"
        if unit == "st" and amount != int(amount):
            raise UsageError(f"{setting}={text}: steps are whole numbers")
        if unit == "%" and amount > 100:
            raise UsageError(f"{setting}={text}: expected at most 100%")
        return cls(amount, unit)

    def steps(self, *, steps_per_epoch: int, total_steps: int) -> int:
        """Return this duration in optimizer steps, rounded to the nearest."""
        if self.unit == "ep":
            return round(self.amount * steps_per_epoch)
        if self.unit == "%":
            return round(self.amount / 100 * total_steps)
        return int(self.amount)
