"""One sample for one key, whoever asks and whenever; and what stands in for a bad picture."""

import random

import numpy as np
import pytest
import torch

from vitx.config.schema import AugmentationConfig, Crop
from vitx.data.augment import PictureFormat, build_eval_transform, build_train_transform
from vitx.data.images import LabelledImages
from vitx.data.samples import (
    BadImagePolicy,
    BadRow,
    Decoder,
    EvalSamples,
    Sample,
    TrainSamples,
    collate,
)
from vitx.errors import DataError
from vitx.records import SampleKey

JUNK = b"no picture"
PLAIN = PictureFormat(image_px=4, mean=(0.0,) * 3, std=(1.0,) * 3)
STILL = AugmentationConfig(crop=Crop.resize, hflip=0.0)
# All that draws, with every generator: torch's, numpy's and Python's.
LIVELY = AugmentationConfig(auto_augment="rand-m9-mstd0.5-inc1", erase_prob=0.5)


@pytest.fixture
def split(table, picture):
    """split(6, bad={2}) has six pictures of shades 0 to 5; row 2 holds none."""

    def make(count, *, bad=frozenset(), rows=None):
        pictures = [JUNK if row in bad else picture(row) for row in range(count)]
        labels = np.arange(count) * 10
        return LabelledImages(
            name="train",
            data=table(labels.tolist(), pictures=pictures),
            image_column="image",
            labels=labels if rows is None else labels[rows],
            rows=None if rows is None else np.asarray(rows),
        )

    return make


def transform(config):
    return build_train_transform(config, PLAIN, mirror=True)


def samples(images, *, seed=0, config=STILL):
    decoder = Decoder(images=images, channels=3, max_pixels=100)
    return TrainSamples(decoder, transform(config), seed=seed)


def shade(sample):
    return round(sample.image[0, 0, 0].item() * 255)


def test_a_key_says_everything(split):
    images = split(8)
    keys = [SampleKey(e, row, again) for e in (0, 1) for row in range(8) for again in (0, 1)]
    first = {key: samples(images, config=LIVELY)[key] for key in keys}
    np.random.default_rng(0).shuffle(keys)
    later = samples(images, config=LIVELY)
    for number, key in enumerate(keys):
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002
        torch.manual_seed(number)
        found = later[key]
        assert torch.equal(found.image, first[key].image)
        assert (found.label, found.row, found.bad) == (key.row * 10, key.row, ())


def test_each_part_of_the_key_counts(split):
    images = split(3)
    drawn = [
        samples(images, seed=seed, config=AugmentationConfig(erase_prob=1.0))[key].image
        for seed in (0, 1)
        for key in (SampleKey(0, 1, 0), SampleKey(1, 1, 0), SampleKey(0, 1, 1))
    ]
    assert len({image.numpy().tobytes() for image in drawn}) == 6


def test_a_bad_picture_is_replaced_by_another_one(split):
    images = split(50, bad={7, 8})
    found = samples(images)[SampleKey(0, 7, 0)]
    assert found.bad[0].row == 7
    assert found.bad[0].reason.startswith("no readable JPEG, PNG, WebP or BMP")
    assert found.row not in {7, 8}
    assert (shade(found), found.label) == (found.row, found.row * 10)
    again = samples(images)[SampleKey(0, 7, 0)]
    assert torch.equal(again.image, found.image)
    assert (again.row, again.bad) == (found.row, found.bad)
    stand_ins = {samples(images)[SampleKey(epoch, 7, 0)].row for epoch in range(30)}
    assert len(stand_ins) > 10
    repeats = {samples(images)[SampleKey(0, 7, repeat)].row for repeat in range(30)}
    assert len(repeats) > 10


def test_a_replacement_that_is_bad_is_replaced_too(split):
    images = split(20, bad=set(range(18)))
    for row in range(18):
        found = samples(images)[SampleKey(0, row, 0)]
        assert found.row in {18, 19}
        assert found.bad[0].row == row
        assert all(each.row < 18 for each in found.bad)
    assert max(len(samples(images)[SampleKey(0, row, 0)].bad) for row in range(18)) > 2


def test_none_but_bad_pictures_leave_the_place_empty(split):
    found = samples(split(3, bad={0, 1, 2}))[SampleKey(0, 0, 0)]
    assert found.image.numel() == 0
    assert 0 < len(found.bad) < 100


def test_evaluation_puts_nothing_in_its_place(split):
    images = split(5, bad={3})
    decoder = Decoder(images=images, channels=3, max_pixels=100)
    found = EvalSamples(decoder, build_eval_transform(STILL, PLAIN))
    assert len(found) == 5
    assert [shade(found[row]) for row in (0, 1, 2, 4)] == [0, 1, 2, 4]
    assert found[3].image.numel() == 0
    assert [each.row for each in found[3].bad] == [3]


def test_too_large_a_picture_is_bad(split):
    decoder = Decoder(images=split(2), channels=3, max_pixels=15)
    seen = build_eval_transform(STILL, PLAIN)
    found = EvalSamples(decoder, seen)[0]
    assert found.bad == (BadRow(0, "16 pixels (4 x 4), more than max_pixels=15"),)


def test_collate_leaves_out_what_has_no_picture():
    picture, gone = torch.full((3, 2, 2), 5.0), BadRow(8, "gone")
    good = Sample(picture, 1, 7, ())
    stand_in = Sample(picture + 1, 2, 9, (gone,))
    empty = Sample(torch.empty(0), 3, 6, (BadRow(6, "zero"),))
    batch = collate([good, stand_in, empty])
    assert torch.equal(batch.images, torch.stack([picture, picture + 1]))
    assert (batch.labels.tolist(), batch.indices.tolist()) == ([1, 2], [7, 9])
    assert batch.labels.dtype is torch.int64
    assert batch.bad == (gone, BadRow(6, "zero"))
    assert len(collate([empty]).labels) == 0


def test_the_first_bad_picture_is_named_by_its_row_of_the_dataset(split):
    images = split(9, rows=[8, 3, 5])
    policy = BadImagePolicy(images=images, skip=False, limit=100)
    known = set()
    policy.check((), known)
    with pytest.raises(DataError) as caught:
        policy.check((BadRow(1, "it is torn"),), known)
    line = str(caught.value)
    assert line.startswith("train row 3 can't be decoded: it is torn; ")
    assert "dataset.bad_image=skip" in line


def test_skipping_counts_each_row_once_and_is_bounded(split):
    policy = BadImagePolicy(images=split(9), skip=True, limit=2)
    known = {4}
    policy.check((BadRow(4, "torn"), BadRow(6, "torn"), BadRow(4, "torn")), known)
    assert known == {4, 6}
    policy.check((BadRow(6, "torn"),), known)
    with pytest.raises(DataError) as caught:
        policy.check((BadRow(6, "torn"), BadRow(8, "empty (0 bytes)")), known)
    line = str(caught.value)
    assert line.startswith("3 pictures of train can't be decoded, more than the 2 that")
    assert "dataset.bad_image_limit" in line
    assert "train row 8: empty (0 bytes)" in line
    assert "\n" not in line
