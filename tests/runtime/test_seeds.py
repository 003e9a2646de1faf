"""Randomness from counters: the same everywhere and for ever, and never the same twice."""

import random

import numpy as np
import pytest
import torch

from vitx.runtime.seeds import derive, set_random_state


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [  # printf 'order\0000\0001' | b2sum -l 64, and so on
        (("order", 0, 1), "c10839f1c35c1d43"),
        (("augment", 3, 0, 17, 2), "a85dc1da6ff3f75d"),
    ],
)
def test_a_seed_is_what_it_was_in_every_release(arguments: tuple, digest: str) -> None:
    assert derive(*arguments) == int.from_bytes(bytes.fromhex(digest), "little") >> 1


def test_seeds_of_different_counters_differ() -> None:
    purposes, counters = ("order", "augment", "mix", "step"), range(12)
    seeds = [
        derive(purpose, seed, one, other)
        for purpose in purposes
        for seed in counters
        for one in counters
        for other in counters
    ]
    shorter = [
        derive(purpose, seed, one) for purpose in purposes for seed in counters for one in counters
    ]

    assert len({*seeds, *shorter}) == len(seeds) + len(shorter)
    assert derive("x", 1, 23) != derive("x", 12, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_every_bit_of_a_seed_is_used() -> None:
    seeds = np.array([derive("order", 0, number) for number in range(4000)], dtype=np.uint64)
    shares = [(seeds >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(63)]

    # Of 4000 fair coins, 5 standard deviations are 158.
    assert all(abs(share - 0.5) < 158 / 4000 for share in shares)


@pytest.mark.parametrize("value", [0, 7, 2**32 - 1, 2**32 + 7, 2**63 - 1])
def test_all_three_generators_follow(value: int) -> None:
    set_random_state(value)

    assert random.random() == random.Random(value).random()
    assert np.random.random() == np.random.RandomState(value % 2**32).random()
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(value))
