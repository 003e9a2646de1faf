import io
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.decode import BadImageError, decode
from vitx.data.sources import load_splits, load_val
from vitx.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_digits_are_the_split_of_scikit_learn():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    expected, _ = train_test_split(
        digits.images, test_size=0.2, random_state=0, stratify=digits.target
    )
    splits = load_splits(DatasetConfig())
    assert (len(splits.train), len(splits.val)) == (1437, 360) == (len(expected), 360)
    assert splits.classes == tuple("0123456789")
    found = [
        np.asarray(decode(splits.train.encoded(row), channels=1, max_pixels=64))
        for row in range(1437)
    ]
    grey = np.rint(expected * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, found)) == sorted(map(bytes, grey))
    assert np.abs(np.bincount(splits.val.labels) - 36).max() <= 1


def test_digits_with_a_path_are_a_mistake():
    with pytest.raises(UsageError, match="dataset=folder"):
        load_splits(DatasetConfig(path="pictures"))


def test_a_single_picture_of_a_class_stays_in_training(tmp_path, folder):
    splits = load_splits(folder(tmp_path / "x", train={"a": 9, "b": 1}))
    assert (splits.train.labels == 1).sum() == 1
    assert (splits.val.labels == 1).sum() == 0
    assert any("has no picture of b" in note for note in splits.notes)


def test_hold_out_is_stratified_fixed_and_disjoint(tmp_path, folder, shades):
    config = folder(tmp_path, train={"a": 40, "b": 20, "c": 2})
    splits = load_splits(config)
    assert np.bincount(splits.val.labels).tolist() == [4, 2, 1]
    assert np.bincount(splits.train.labels).tolist() == [36, 18, 1]
    assert sorted([*splits.train.rows, *splits.val.rows]) == list(range(62))
    assert (np.diff(splits.train.rows) > 0).all()
    assert "7 of the 62 rows of train are held out" in splits.notes[0]
    again = load_splits(config)
    assert again.val.rows.tolist() == splits.val.rows.tolist()
    row = splits.val.rows[0]
    assert (
        splits.val.describe(0)
        == f"train row {row} ({tmp_path}/train/a/{shades(splits.val)[0]}.png)"
    )
    config.hold_out = 0.5
    assert len(load_splits(config).val) == 31
    config.hold_out = 1.0
    with pytest.raises(UsageError, match="between 0 and 1"):
        load_splits(config)


def test_a_missing_picture_is_a_bad_picture(tmp_path, picture, folder):
    config = folder(tmp_path / "f", train={"a": 3, "b": 2})
    splits = load_splits(config)
    os.remove(tmp_path / "f" / "train" / "a" / "1.png")
    (index,) = np.flatnonzero(splits.train.rows == 1)
    with pytest.raises(BadImageError, match="can't be read: No such file"):
        splits.train.encoded(index)
    rows = [{"bytes": None, "path": None}, None, {"bytes": None, "path": "/dev/zero"}]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pictures = pa.array([*rows, {"bytes": picture(), "path": None}], kind)
    data = datasets.Dataset(pa.table({"image": pictures, "label": [0, 1, 0, 1]}))
    datasets.DatasetDict(train=data, val=data).save_to_disk(tmp_path / "h")
    splits = load_splits(DatasetConfig(kind=DatasetKind.hub, path=str(tmp_path / "h")))
    for index, reason in enumerate(["no picture", "no picture", "no regular file"]):
        with pytest.raises(BadImageError, match=reason):
            splits.train.encoded(index)
    assert splits.train.encoded(3) == picture()


def test_the_only_split_is_enough_to_measure_on(tmp_path, folder, table, hub):
    config = hub(tmp_path / "x", train=table([0, 1, 1], names=["a", "b"]))
    found = load_val(config, classes=["a", "b"])
    assert (found.val.name, len(found.val)) == ("train", 3)
    with pytest.raises(DataError, match="in another order"):
        load_val(config, classes=["b", "a"])
    config = folder(tmp_path / "f", test={"b": 2})
    found = load_val(config, classes=["a", "b"])
    assert found.val.labels.tolist() == [1, 1]
    assert found.notes == ("test has no picture of a",)
    config = folder(tmp_path / "g", one={"a": 1}, two={"a": 1})
    with pytest.raises(DataError, match="val or validation or valid or test, found one, two"):
        load_val(config, classes=["a"])
    config.val_split = "two"
    assert load_val(config, classes=["a"]).val.name == "two"
    assert len(load_val(DatasetConfig(), classes=tuple("0123456789")).val) == 360


def test_fingerprint_follows_the_data_and_nothing_else(tmp_path, picture, table, hub):
    def print_of(name, labels=(0, 1, 0), names=("a", "b"), pictures=None):
        rows = table(list(labels), names=list(names), pictures=pictures)
        return load_splits(hub(tmp_path / name, train=rows, val=rows)).fingerprint()

    first = print_of("one")
    assert first == print_of("two")
    assert len(first) == 16
    other = [picture(0), picture(1), picture(1, "BMP")]
    changed = [
        print_of("labels", labels=(0, 1, 1)),
        print_of("rows", labels=(0, 1, 0, 1)),
        print_of("names", names=("a", "c")),
        print_of("pictures", pictures=other),
    ]
    assert len({first, *changed}) == 5


def test_fingerprint_of_folders_follows_names_and_sizes(tmp_path, picture, folder):
    config = folder(tmp_path / "x", train={"a": 3, "b": 2})
    first = load_splits(config).fingerprint()
    os.rename(tmp_path / "x", tmp_path / "y")
    config.path = str(tmp_path / "y")
    assert load_splits(config).fingerprint() == first
    file = tmp_path / "y" / "train" / "a" / "2.png"
    file.write_bytes(picture(9, "BMP"))
    second = load_splits(config).fingerprint()
    file.rename(file.with_name("3.png"))
    assert len({first, second, load_splits(config).fingerprint()}) == 3


def test_another_process_gets_the_files_not_the_pictures(tmp_path, table, hub):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    pictures = []
    for pixels in noise:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        pictures.append(file.getvalue())
    splits = load_splits(hub(tmp_path, train=table([0, 1] * 20, pictures=pictures)))
    assert len(pickle.dumps(splits.train)) < 10_000 < sum(map(len, pictures))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        found = pool.submit(splits.train.encoded, 5).result()
    assert found == pictures[splits.train.rows[5]]
