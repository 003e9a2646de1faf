"""Neighbours and their votes against scikit-learn and dense float64, whatever the block sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vitx.errors import DataError, UsageError
from vitx.evaluate.answers import Answers
from vitx.evaluate.probes import nearest as search
from vitx.evaluate.probes.nearest import Neighbours, nearest
from vitx.evaluate.probes.vote import vote

N, Q, D, C = 700, 90, 24, 7
SMALL = 40_000  # bytes: tiles of 64 rows and 16 queries, groups of some queries


def drawn(rows: int, seed: int, width: int = D) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def labels(rows: int, seed: int, classes: int = C) -> Tensor:
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


def dense(bank: Tensor, queries: Tensor, k: int, own: Tensor | None = None) -> Neighbours:
    """By the definition: every cosine in float64, numpy's stable sort."""
    wide, asked = bank.double().numpy(), queries.double().numpy()
    cosine = np.stack([(wide * each).sum(1) for each in asked])
    for features, axis in ((wide, 0), (asked, 1)):
        cosine /= np.expand_dims(np.maximum(np.sqrt((features**2).sum(1)), 1e-12), axis)
    if own is not None:
        cosine[np.arange(len(asked)), own.numpy()] = -np.inf
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return Neighbours(
        rows=torch.from_numpy(rows),
        similarity=torch.from_numpy(np.take_along_axis(cosine, rows, 1)),
        uncertain=0,
    )


def assert_same(found: Neighbours, expected: Neighbours) -> None:
    assert torch.equal(found.rows, expected.rows)
    torch.testing.assert_close(found.similarity, expected.similarity, rtol=0, atol=1e-12)
    assert found.uncertain == 0


@pytest.mark.parametrize("k", [1, 10, 200, N])
@pytest.mark.parametrize("memory_bytes", [1, SMALL, 2**30])
def test_neighbours_are_those_of_a_dense_search(k: int, memory_bytes: int) -> None:
    bank, queries = drawn(N, 1), drawn(Q, 2)
    found = nearest(bank, queries, k=k, memory_bytes=memory_bytes)
    assert_same(found, dense(bank, queries, k))


def test_blocks_change_no_bit() -> None:
    bank, queries = drawn(3000, 3), drawn(Q, 4)
    every = [nearest(bank, queries, k=20, memory_bytes=each) for each in (SMALL, 2**20, 2**31)]
    for each in every[1:]:
        assert torch.equal(each.rows, every[0].rows)
        assert torch.equal(each.similarity, every[0].similarity)
    apart = [nearest(bank, part, k=20) for part in queries.split(13)]
    assert torch.equal(torch.cat([each.similarity for each in apart]), every[0].similarity)


def test_a_later_block_beats_every_earlier_one() -> None:
    queries = drawn(5, 5)
    share = torch.linspace(0.05, 0.95, 3000)[:, None]  # ever nearer to query 0
    bank = share * queries[:1] + (1 - share) * drawn(3000, 6)
    assert_same(nearest(bank, queries, k=30, memory_bytes=SMALL), dense(bank, queries, 30))


@pytest.mark.parametrize("copies", [2, 50, 500])
def test_of_equals_the_lower_row_comes_first(copies: int) -> None:
    order = torch.randperm(40 * copies, generator=torch.Generator().manual_seed(copies))
    bank = drawn(40, 7).repeat(copies, 1)[order]
    queries = drawn(20, 8)
    found = nearest(bank, queries, k=15, memory_bytes=2**24)
    assert_same(found, dense(bank, queries, 15))


def test_what_float32_can_not_tell_apart_float64_does() -> None:
    one = drawn(1, 9)
    bank = one + 1e-7 * drawn(900, 10)  # their cosines with anything differ in the 14th digit
    queries = drawn(20, 11)
    assert_same(nearest(bank, queries, k=5, memory_bytes=SMALL), dense(bank, queries, 5))


@pytest.mark.parametrize("width", [1, 24, 384, 4096])
def test_float32_is_no_further_from_the_truth_than_is_said(width: int) -> None:
    both = drawn(60, 3, width).abs(), 1 + drawn(60, 4, width).abs()  # of one sign: errors add up
    unit = [each.double() / each.double().norm(dim=1, keepdim=True) for each in both]
    true = unit[0] @ unit[1].T
    found = unit[0].float() @ unit[1].float().T
    assert (found - true).abs().max() < search._error_bound(width)


def test_features_that_are_all_the_same_are_counted_as_uncertain() -> None:
    bank = drawn(1, 12).expand(search._MANY + 100, D)
    found = nearest(bank, drawn(3, 13), k=5)
    assert found.uncertain == 3
    assert torch.equal(found.similarity[:, 0], found.similarity[:, 4])


@pytest.mark.parametrize("memory_bytes", [SMALL, 2**30])
@pytest.mark.parametrize("rows", [3, 41, 300])
def test_a_query_is_no_neighbour_of_itself(rows: int, memory_bytes: int) -> None:
    bank = drawn(rows, 14)
    own = torch.arange(rows)
    found = nearest(bank, bank, k=40, own_rows=own, memory_bytes=memory_bytes)
    assert_same(found, dense(bank, bank, min(40, rows - 1), own))
    assert not (found.rows == own[:, None]).any()


def test_some_queries_are_in_the_bank() -> None:
    bank, own = drawn(50, 15), torch.tensor([3, -1, 7])
    queries = torch.stack([bank[3], bank[4], bank[7]])
    assert nearest(bank, queries, k=1, own_rows=own).rows[1].tolist() == [4]
    assert (nearest(bank, queries, k=49, own_rows=own).rows != own[:, None]).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_bank_mapped_from_a_file_is_what_it_stores(kind: torch.dtype, tmp_path: Path) -> None:
    held = drawn(N, 16).to(kind)
    path = tmp_path / "bank"
    path.write_bytes(held.view(torch.uint8).numpy().tobytes())
    bank = torch.from_file(str(path), size=N * D, dtype=kind).view(N, D)
    found = nearest(bank, drawn(Q, 17), k=20, memory_bytes=SMALL)
    assert_same(found, dense(held, drawn(Q, 17), 20))
    assert torch.equal(bank, held)


def test_lengths_do_not_matter_however_extreme() -> None:
    bank, queries = drawn(N, 18), drawn(Q, 19)
    stretched = bank * torch.logspace(-8, 25, N)[:, None]  # squares overflow in float32
    expected = nearest(bank, queries, k=9)
    found = nearest(stretched, queries, k=9)
    assert torch.equal(found.rows, expected.rows)
    torch.testing.assert_close(found.similarity, expected.similarity, rtol=0, atol=1e-6)


def test_an_empty_feature_is_like_nothing() -> None:
    bank = torch.cat([torch.zeros(1, D), drawn(30, 20)])
    found = nearest(bank, torch.zeros(1, D), k=3)
    assert found.rows.tolist() == [[0, 1, 2]]
    assert found.similarity.tolist() == [[0, 0, 0]]


def test_the_precision_of_others_is_left_as_it_was() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(nearest(drawn(N, 1), drawn(Q, 2), k=5), dense(drawn(N, 1), drawn(Q, 2), 5))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_is_named(wrong: float) -> None:
    bank = drawn(N, 21)
    bank[613, 2] = wrong
    with pytest.raises(DataError, match="row 613 of the bank"):
        nearest(bank, drawn(Q, 22), k=5)
    with pytest.raises(DataError, match="row 613 of the queries"):
        nearest(drawn(Q, 22), bank, k=5)


def test_what_can_not_be_searched_is_refused() -> None:
    with pytest.raises(UsageError, match="k=0"):
        nearest(drawn(5, 1), drawn(5, 2), k=0)
    with pytest.raises(DataError, match="one width"):
        nearest(drawn(5, 1), drawn(5, 2, width=3), k=1)
    with pytest.raises(DataError, match="no row that counts"):
        nearest(drawn(1, 1), drawn(1, 1), k=1, own_rows=torch.tensor([0]))


@pytest.mark.parametrize("classes", [C, 1])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_votes_are_those_of_scikit_learn(k: int, classes: int) -> None:
    bank, queries = drawn(N, 23), drawn(Q, 24)
    known, wanted = labels(N, 25, classes), labels(Q, 26, classes)
    theirs = KNeighborsClassifier(
        k,
        algorithm="brute",
        metric="cosine",
        weights=lambda distance: np.exp((1 - distance) / 0.07),
    ).fit(bank.double().numpy(), known.numpy())
    expected = theirs.predict_proba(queries.double().numpy())

    found = nearest(bank, queries, k=200)
    shares = vote(found, known, k=k, num_classes=classes)
    np.testing.assert_allclose(shares.numpy(), expected, atol=1e-12)
    answers = Answers.of(shares, wanted, log_probabilities=shares.log())
    np.testing.assert_array_equal(answers.prediction, expected.argmax(1))
    assert answers.top(1) == pytest.approx(
        100 * theirs.score(queries.double().numpy(), wanted.numpy())
    )


def test_several_k_are_answered_from_one_search() -> None:
    bank, queries, known = drawn(N, 27), drawn(Q, 28), labels(N, 29)
    found = nearest(bank, queries, k=200)
    for k in (10, 20, 100, 200):
        alone = vote(nearest(bank, queries, k=k), known, k=k, num_classes=C)
        assert torch.equal(vote(found, known, k=k, num_classes=C), alone)


def test_a_small_bank_votes_as_a_whole_and_cold_votes_stay_finite() -> None:
    bank, known = drawn(4, 31), torch.tensor([0, 2, 2, 0])
    found = nearest(bank, drawn(6, 32), k=50)
    assert found.rows.shape == (6, 4)
    shares = vote(found, known, k=50, num_classes=3, temperature=1e-5)
    assert shares.isfinite().all()
    torch.testing.assert_close(shares.sum(1), torch.ones(6, dtype=torch.float64))
    assert torch.equal(shares.argmax(1), known[found.rows[:, 0]])
    assert not shares[:, 1].any()  # it has none


def test_votes_that_mean_nothing_are_refused() -> None:
    found = nearest(drawn(4, 1), drawn(2, 2), k=2)
    with pytest.raises(DataError, match="label 5"):
        vote(found, torch.tensor([0, 1, 2, 5]), k=2, num_classes=3)
    with pytest.raises(UsageError, match="temperature=0"):
        vote(found, torch.zeros(4, dtype=torch.int64), k=2, num_classes=1, temperature=0)
