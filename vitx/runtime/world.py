"""The processes of one run, and what they ask of each other.

A run is computed by one or more processes, its ranks. All carry out the same code; rank 0 leads:
it alone reads and writes the run directory, and what it read the others receive. What passes
between them is tensors and JSON, never pickle. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class World:
    """The ranks of a run as one of them sees them; this one is alone and answers itself.

    Methods of several ranks are carried out by all of them, in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        local_rank: number of this process on its machine.
        local_size: how many there are on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that reads and writes."""
        return self.rank == 0

    def first(self, ask: Callable[[], Value]) -> Value:
        """Return on every rank what `ask` returned on rank 0, as plain data.

        Raises:
            VitxError: it was raised there.
        """
        return ask()

    def gather(self, value: Value) -> list[Value]:
        """Return the plain values of all ranks, in their order, on every rank."""
        return [value]

    def highest(self, number: int) -> int:
        """Return the highest of the ranks' numbers."""
        return number

    def share(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return on every rank the CPU tensors that rank 0 has; the others give None."""
        return dict(tensors or {})

    def share_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors of every rank the values that they have on rank 0."""

    def started(self) -> None:
        """From now on a rank that keeps the others waiting is given up sooner."""

    @contextmanager
    def losses(self) -> Iterator[None]:
        """Turn the failure of a conversation with the other ranks into a RankLostError."""
        yield

    def close(self) -> None:
        """Leave the others."""


ALONE = World()
