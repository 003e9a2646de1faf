"""The most similar rows of those met so far, where they are met block by block.

Shapes: q queries, s of them that are compared with a block, M rows that are kept, R of a block.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

NO_ROW = -1
_GROUP = 64  # similarities that are looked at through the highest of them


class BestSoFar:
    """The M most similar rows so far of each of q queries, most similar first.

    Attributes:
        similarity: [q, M] float32.
        rows: [q, M] int64; `NO_ROW`, with a similarity of -inf, where fewer were met.

    Args:
        queries: q.
        count: M.
        device: of the tensors.
    """

    def __init__(self, queries: int, count: int, device: torch.device) -> None:
        self.similarity = torch.full((queries, count), -math.inf, device=device)
        self.rows = torch.full((queries, count), NO_ROW, device=device)

    def take(self, some: slice, similarity: Tensor, first: int) -> None:
        """Merge a block.

        Args:
            some: of which queries.
            similarity: [s, R].
            first: number of the block's first row.
        """
        worst = self.similarity[some, -1:]
        padded = similarity
        if short := -similarity.shape[1] % _GROUP:
            padded = F.pad(similarity, (0, short), value=-math.inf)
        grouped = padded.unflatten(1, (-1, _GROUP))
        # Few of a later block are among the best: to find them, most are looked at as groups.
        above = grouped.amax(2) > worst
        query, group = above.nonzero(as_tuple=True)
        if 8 * len(query) > above.numel():
            count = min(self.rows.shape[1], similarity.shape[1])
            values, columns = similarity.topk(count, dim=1)
            self._merge(some, values, columns + first)
            return
        found = grouped[query, group]
        hit, place = (found > worst[query]).nonzero(as_tuple=True)
        self._merge(
            some,
            *_lined_up(
                query[hit], found[hit, place], first + group[hit] * _GROUP + place, len(similarity)
            ),
        )

    def _merge(self, some: slice, similarity: Tensor, rows: Tensor) -> None:
        if not similarity.shape[1]:
            return
        both = torch.cat([self.similarity[some], similarity], 1)
        numbers = torch.cat([self.rows[some], rows], 1)
        top, columns = both.topk(self.rows.shape[1], dim=1)
        self.similarity[some], self.rows[some] = top, numbers.gather(1, columns)


def _lined_up(query: Tensor, value: Tensor, row: Tensor, queries: int) -> tuple[Tensor, Tensor]:
    """Return what was found, query by query in ascending order, as [q, most of any] each."""
    counts = query.bincount(minlength=queries)
    place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    shape = (queries, int(counts.max()))
    values = torch.full(shape, -math.inf, device=value.device)
    rows = torch.full(shape, NO_ROW, device=value.device)
    values[query, place], rows[query, place] = value, row
    return values, rows
