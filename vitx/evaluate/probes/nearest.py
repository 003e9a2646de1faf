"""Exact nearest neighbours by cosine, in bounded memory, the same for any size of its blocks.

float32 finds candidates, block by block of the bank, and float64 orders them. A float32 dot product
of D numbers of unit vectors is at most about D 2^-24 from the true one (N. Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1): where the K-th candidate is further than that from
all that are none, the neighbours are proven to be the nearest. Where it is not, more candidates
are taken.

Shapes: Q queries, N rows of the bank, D width, K neighbours, M candidates (K <= M <= N), R rows of
a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitx.errors import DataError, UsageError
from vitx.evaluate.probes.best_so_far import NO_ROW, BestSoFar
from vitx.evaluate.probes.inputs import ROWS_AT_ONCE, refuse_non_finite

_SPARE = 32  # candidates beyond K, at least
_MANY = 4096  # candidates where `_SPARE` prove nothing: of features that are nearly all the same
_LEAST_ROWS = 64  # of a block, however little memory there is
_SHORTEST = 1e-12  # as in torch's normalize: what is shorter is not stretched to length 1


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest rows of a bank, nearest first; of equals the lower row first. On the CPU.

    Attributes:
        rows: [Q, K] int64, rows of the bank.
        similarity: [Q, K] float64, their cosines.
        uncertain: queries with more rows within float32's precision of the K-th than were
            compared in float64: there some of these rows stand for all.
    """

    rows: Tensor
    similarity: Tensor
    uncertain: int


def nearest(
    bank: Tensor,
    queries: Tensor,
    *,
    k: int,
    own_rows: Tensor | None = None,
    memory_bytes: int = 2 * 2**30,
    device: torch.device | None = None,
) -> Neighbours:
    """Find the rows of a bank that are nearest to each query.

    Args:
        bank: [N, D] of any floating type, such as fp16 mapped from a file; read block by block.
        queries: [Q, D].
        k: neighbours; a bank of fewer rows gives all it has.
        own_rows: [Q] int64, the row of the bank that a query is itself and that does not count
            (leave one out), or -1; None where no query is in the bank.
        memory_bytes: about what may be used beside bank and queries.
        device: where blocks are compared; None where the bank is.

    Returns:
        K = min(k, N) neighbours of each query, one less where one does not count.

    Raises:
        UsageError: k is not positive.
        DataError: features are not finite, of another width, or too few to leave one out.
    """
    bank, queries = bank.detach(), queries.detach()
    device = bank.device if device is None else device
    own = torch.full((len(queries),), -1) if own_rows is None else own_rows.cpu()
    most = len(bank) - int(bool((own >= 0).any()))
    if k < 1:
        raise UsageError(f"k={k}: expected at least one neighbour")
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        shapes = f"{tuple(bank.shape)} and {tuple(queries.shape)}"
        raise DataError(f"bank and queries have the shapes {shapes}: expected one width")
    if most < 1:
        raise DataError(f"a bank of {len(bank)} has no row that counts as a neighbour")
    k = min(k, most)
    search = _Search(
        bank, _lengths(bank, "bank"), queries, _lengths(queries, "queries"), own, k, device
    )
    rows = torch.empty(len(queries), k, dtype=torch.int64)
    similarity = torch.empty(len(queries), k, dtype=torch.float64)
    left = torch.arange(len(queries))
    for spare in (max(_SPARE, k // 4), max(_MANY, 2 * k) - k):
        count, unsure = min(len(bank), k + spare), []
        tile = _Tile.within(memory_bytes, candidates=count, width=bank.shape[1])
        for part in left.split(tile.group):
            rows[part], similarity[part], sure = search.of(part, count, tile)
            unsure.append(part[~sure])
        left = torch.cat(unsure) if unsure else left
        if not len(left) or count == len(bank):
            break
    return Neighbours(rows=rows, similarity=similarity, uncertain=len(left))


class _Tile(NamedTuple):
    """How much is compared at once.

    Attributes:
        group: queries for which the bank is read once.
        queries: of those, how many are compared with a block at a time.
        rows: R.
    """

    group: int
    queries: int
    rows: int

    @classmethod
    def within(cls, memory_bytes: int, *, candidates: int, width: int) -> _Tile:
        """Return the largest that fits into so many bytes, to about a quarter."""
        queries, rows = 1024, ROWS_AT_ONCE
        # A similarity and what is found above the worst of them; a block as it is read, in
        # float64 and in float32.
        while queries * rows * 16 + rows * width * 20 > memory_bytes / 2 and rows > _LEAST_ROWS:
            queries, rows = max(16, queries // 2), rows // 2
        # A query in float64 and float32, and its candidates: number and similarity, held, merged
        # and ordered.
        group = int(memory_bytes / 2 / (12 * width + 48 * candidates))
        return cls(max(1, group), queries, rows)


@dataclass(frozen=True)
class _Search:
    """A bank and queries that are compared.

    Attributes:
        bank: [N, D].
        lengths: [N] float64, of its rows.
        queries: [Q, D].
        query_lengths: [Q] float64.
        own: [Q] int64 row that does not count, or -1.
        k: K.
        device: where blocks are compared.
    """

    bank: Tensor
    lengths: Tensor
    queries: Tensor
    query_lengths: Tensor
    own: Tensor
    k: int
    device: torch.device

    @torch.no_grad()
    def of(self, part: Tensor, count: int, tile: _Tile) -> tuple[Tensor, Tensor, Tensor]:
        """Return [q, K] rows and similarities of some queries, and [q] whether they are proven."""
        best = self._candidates(part, count, tile)
        # By row, so that a stable order by similarity keeps the lower row first.
        rows = best.rows.cpu().sort(1).values
        exact = self._similarity(part, rows)
        exact[(rows == self.own[part, None]) | (rows == NO_ROW)] = -math.inf
        exact, order = exact.sort(dim=1, descending=True, stable=True)
        rows = rows.gather(1, order)
        # What is no candidate is at most as similar, in float32, as the worst of them.
        beyond = best.similarity[:, -1].to("cpu", torch.float64)
        sure = exact[:, self.k - 1] > beyond + _error_bound(self.bank.shape[1])
        sure |= count == len(self.bank)
        return rows[:, : self.k], exact[:, : self.k], sure

    def _candidates(self, part: Tensor, count: int, tile: _Tile) -> BestSoFar:
        """Return M rows of the bank for each of some queries, by their cosines in float32."""
        queries = self._unit(self.queries, self.query_lengths, part)
        best = BestSoFar(len(part), count, self.device)
        with _plain_float32():
            for first in range(0, len(self.bank), tile.rows):
                block = self._unit(
                    self.bank, self.lengths, slice(first, min(first + tile.rows, len(self.bank)))
                )
                for start in range(0, len(part), tile.queries):
                    some = slice(start, min(start + tile.queries, len(part)))
                    similarity = queries[some] @ block.T
                    _leave_out(similarity, self.own[part[some]] - first)
                    best.take(some, similarity, first)
        return best

    def _unit(self, features: Tensor, lengths: Tensor, rows: Tensor | slice) -> Tensor:
        """Return some rows with length 1, in float32 on the device."""
        if isinstance(rows, Tensor):
            rows = rows.to(features.device)
        wide = features[rows].to(self.device).double()
        return (wide / lengths[rows].to(self.device)[:, None]).float()

    def _similarity(self, part: Tensor, rows: Tensor) -> Tensor:
        """Return [q, M] cosines of some queries with rows of the bank, in float64 on the CPU.

        By numpy, which adds up each of them by itself: equal rows have equal cosines wherever
        they stand. One thread; on a busy machine two would wait for each other at every query.
        """
        queries = self.queries[part.to(self.queries.device)].double().cpu()
        lengths = self.query_lengths[part.to(self.query_lengths.device)].cpu()
        found = torch.empty(rows.shape, dtype=torch.float64)
        for number, query in enumerate(queries.numpy()):
            wide = _in_float64(self.bank, rows[number])
            found[number] = torch.from_numpy(np.einsum("md,d->m", wide, query))
        return found.div_(lengths[:, None]).div_(self.lengths.cpu()[rows])


def _in_float64(features: Tensor, rows: Tensor) -> np.ndarray:
    if features.is_cpu and features.dtype is not torch.bfloat16:  # which numpy has not
        wide: np.ndarray = features.numpy()[rows.numpy()].astype(np.float64)
        return wide
    return features[rows.to(features.device)].double().cpu().numpy()


def _leave_out(similarity: Tensor, columns: Tensor) -> None:
    """Let one column of each row of [s, R] never be among the best; [s], others are elsewhere."""
    here = ((columns >= 0) & (columns < similarity.shape[1])).nonzero()[:, 0]
    similarity[here.to(similarity.device), columns[here].to(similarity.device)] = -math.inf


def _lengths(features: Tensor, what: str) -> Tensor:
    """Return the [N] float64 lengths of rows.

    Raises:
        DataError: one is NaN or infinite.
    """
    found = torch.empty(len(features), dtype=torch.float64, device=features.device)
    for start in range(0, len(features), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        found[some] = torch.linalg.vector_norm(features[some], dim=1, dtype=torch.float64)
        refuse_non_finite(found[some].isfinite(), start, what)
    return found.clamp_(min=_SHORTEST)


def _error_bound(width: int) -> float:
    """Return how far a float32 dot product of unit vectors is from the true one at most.

    D + 2 roundings of 2^-24, in whatever order they are added, and some room.
    """
    roundings = (width + 8) * 2.0**-24
    return roundings / (1 - roundings)


@contextmanager
def _plain_float32() -> Iterator[None]:
    """Have matrix products in float32 be no others, such as TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
