"""The order of an epoch, and of a run from any step on."""

from collections import Counter

import pytest

from vitx.data.sampler import MicroBatchSampler, draw, epoch_order
from vitx.records import Plan, SampleKey


@pytest.mark.parametrize("samples", [1, 2, 7, 64, 1437])
@pytest.mark.parametrize("epoch", [0, 5])
def test_an_epoch_is_a_permutation(samples, epoch):
    order = epoch_order(samples, seed=0, epoch=epoch)
    assert sorted(order) == list(range(samples))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16
    assert tuple(epoch_order(50, seed=3, epoch=2)) in orders


def test_places_are_taken_evenly():
    """Over 2000 epochs of 5 each row stands at each place 400 times; 80 is 4 deviations."""
    seen = Counter(
        (place, int(row))
        for epoch in range(2000)
        for place, row in enumerate(epoch_order(5, seed=1, epoch=epoch))
    )
    assert len(seen) == 25
    assert all(abs(count - 400) < 80 for count in seen.values())


@pytest.mark.parametrize(("samples", "repeats"), [(9, 3), (10, 3), (64, 4), (7, 10), (1, 3)])
def test_repeated_augmentation(samples, repeats):
    """As DeiT's: copies in a row, an epoch of the same length, about N / r pictures in it."""
    plain = epoch_order(samples, seed=0, epoch=2)
    order = draw(plain, range(samples), epoch=2, repeats=repeats)
    assert len(set(order)) == samples
    distinct = -(-samples // repeats)
    assert [key.row for key in order] == [plain[i // repeats] for i in range(samples)]
    assert [key.repeat for key in order] == [i % repeats for i in range(samples)]
    assert len({key.row for key in order}) == distinct


def plan(*, samples, batch_size, micro_batch, epochs=3):
    steps = samples // batch_size
    return Plan(
        steps_per_epoch=steps,
        total_steps=epochs * steps,
        batch_size=batch_size,
        micro_batch=micro_batch,
    )


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(4, 4), (4, 2), (6, 3), (23, 23), (1, 1)])
@pytest.mark.parametrize("repeats", [1, 3])
def test_from_any_step_it_is_the_tail_of_the_whole(batch_size, micro_batch, repeats):
    settings = plan(samples=23, batch_size=batch_size, micro_batch=micro_batch)
    options = {"samples": 23, "seed": 4, "repeats": repeats}
    whole = list(MicroBatchSampler(settings, **options))
    assert len(whole) == settings.total_steps * settings.accumulation
    for start in range(settings.total_steps + 1):
        sampler = MicroBatchSampler(settings, **options, start_step=start)
        assert list(sampler) == whole[start * settings.accumulation :]
        assert len(sampler) == len(list(sampler))


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 6])
def test_how_a_batch_is_cut_changes_nothing(micro_batch):
    keys = MicroBatchSampler(
        plan(samples=23, batch_size=6, micro_batch=micro_batch), samples=23, seed=0
    )
    flat = [key for micro in keys for key in micro]
    assert {len(micro) for micro in keys} == {micro_batch}
    # The rest of an epoch, 5 of 23, is not drawn.
    orders = [epoch_order(23, seed=0, epoch=epoch) for epoch in range(3)]
    assert flat == [
        SampleKey(epoch, row, 0) for epoch in range(3) for row in orders[epoch][:18].tolist()
    ]
    assert all(isinstance(key, SampleKey) for key in flat)


def test_a_run_that_ends_within_an_epoch():
    settings = Plan(steps_per_epoch=5, total_steps=7, batch_size=2, micro_batch=2)
    keys = list(MicroBatchSampler(settings, samples=10, seed=0))
    assert [micro[0].epoch for micro in keys] == [0] * 5 + [1] * 2
