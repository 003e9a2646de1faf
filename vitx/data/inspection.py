"""Looks at pictures of a split before anything is trained on them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vitx.data.decode import BadImageError, decode
from vitx.data.samples import BadImagePolicy, BadRow, Decoder
from vitx.errors import DataError

_DRAW_SEED = 0
_NAMED = 5  # bad pictures in an error


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was seen of a split of `rows` pictures."""

    rows: int
    seen: int
    bad: tuple[BadRow, ...]

    def raise_problem(self, policy: BadImagePolicy) -> None:
        """Say what training on these pictures would end with.

        Raises:
            DataError: a picture is bad and none may be, or too many are, judging by those seen.
        """
        if not self.bad:
            return
        images = policy.images
        named = "; ".join(f"{images.describe(bad.row)}: {bad.reason}" for bad in self.bad[:_NAMED])
        more = "; ..." if len(self.bad) > _NAMED else ""
        found = (
            f"{len(self.bad)} of {self.seen} pictures of {images.name} can't be decoded: "
            f"{named}{more}"
        )
        if not policy.skip:
            raise DataError(f"{found}; go on with dataset.bad_image=skip, or mend them")
        expected = len(self.bad) * self.rows / self.seen
        if expected > policy.limit:
            about = "" if self.seen == self.rows else f"; about {expected:.0f} in all"
            raise DataError(
                f"{found}{about}, more than the {policy.limit} that dataset.bad_image_limit allows"
            )


def inspect(decoder: Decoder, *, seconds: float) -> Inspection:
    """Decode pictures in an order that never changes, until all are seen or time is up.

    Args:
        decoder: of the split.
        seconds: how long.

    Returns:
        How many were seen, and which of them are bad.
    """
    rows, bad, seen = len(decoder.images), list[BadRow](), 0
    deadline = time.monotonic() + seconds
    for row in np.random.RandomState(_DRAW_SEED).permutation(rows):
        try:
            encoded = decoder.images.encoded(row)
            decode(encoded, channels=decoder.channels, max_pixels=decoder.max_pixels)
        except BadImageError as reason:
            bad.append(BadRow(int(row), str(reason)))
        seen += 1
        if time.monotonic() > deadline:
            break
    return Inspection(rows=rows, seen=seen, bad=tuple(sorted(bad)))
