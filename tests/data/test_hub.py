import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.sources import load_splits
from vitx.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_rows_of_a_repository(tmp_path, picture, table, hub):
    config = hub(
        tmp_path,
        train=table([0, 2, 1], names=["x", "y", "z"]),
        test=table([2, 1], names=["x", "y", "z"]),
    )
    splits = load_splits(config)
    assert splits.classes == ("x", "y", "z")
    assert splits.train.labels.tolist() == [0, 2, 1]
    assert splits.train.encoded(2) == picture(2)
    assert splits.train.describe(2) == "train row 2"
    assert splits.notes == (
        "no validation split: measured on 'test'",
        "test has no picture of x",
    )


def plain(root, kind, pictures):
    columns = {
        "binary": pa.array(pictures, pa.binary()),
        "large_binary": pa.array(pictures, pa.large_binary()),
        "struct": pa.array([{"path": None, "bytes": data} for data in pictures]),
    }
    (root / "data").mkdir(parents=True)
    labels = pa.array(["b", "a", "b", "a"])
    rows = pa.table({"image": columns[kind], "label": labels})
    pq.write_table(rows, root / "data" / "train-00000-of-00001.parquet")
    return DatasetConfig(kind=DatasetKind.hub, path=str(root))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_columns_of_bytes_and_text_labels(tmp_path, picture, shades, kind):
    splits = load_splits(plain(tmp_path, kind, [picture(shade) for shade in range(4)]))
    assert splits.classes == ("a", "b")
    found = shades(splits.train) + shades(splits.val)
    assert sorted(found) == [0, 1, 2, 3]
    labels = [*splits.train.labels, *splits.val.labels]
    assert labels == [1 if shade % 2 == 0 else 0 for shade in found]


def test_folder_of_save_to_disk(tmp_path, table, shades):
    train, val = table(list(range(4)) * 5), table([3, 2])
    # A shuffled dataset keeps its order apart from its rows until it is saved.
    shuffled = train.shuffle(seed=3)
    datasets.DatasetDict(train=shuffled, val=val).save_to_disk(tmp_path / "dict")
    splits = load_splits(DatasetConfig(kind=DatasetKind.hub, path=str(tmp_path / "dict")))
    assert splits.train.labels.tolist() == shuffled["label"][:]
    assert [shade % 4 for shade in shades(splits.train)] == splits.train.labels.tolist()
    train.save_to_disk(tmp_path / "single")
    splits = load_splits(DatasetConfig(kind=DatasetKind.hub, path=str(tmp_path / "single")))
    assert len(splits.train) == 16 and len(splits.val) == 4


def test_class_folders_read_as_a_repository(tmp_path, folder, shades):
    config = folder(tmp_path / "x", train={"a": 2, "b": 1}, test={"a": 1, "b": 1})
    config.kind = DatasetKind.hub
    splits = load_splits(config)
    assert splits.classes == ("a", "b")
    assert sorted(shades(splits.train)) == [0, 0, 1]
    assert "/train/b/0.png" in splits.train.describe(2)


def repository_faults():
    good = ([0, 1, 0, 1], ["a", "b"])
    swapped = ([0, 1], ["b", "a"])
    others = ([0, 1], ["a", "c"])
    more = ([0, 1], ["a", "b", "c"])
    yield "no train", {"test": good}, {}, "expected a split 'train', found test"
    yield "no split", {"train": good}, {"val_split": "dev"}, "'dev', found train"
    yield "image", {"train": good}, {"image_column": "images"}, "did you mean 'image'?"
    yield "label", {"train": good}, {"label_column": "y"}, "no column 'y', it has image, label"
    yield (
        "not pictures",
        {"train": good},
        {"image_column": "label"},
        "expected encoded pictures",
    )
    yield (
        "not labels",
        {"train": good},
        {"label_column": "image"},
        "integers or text, got struct",
    )
    yield "order", {"train": good, "val": swapped}, {}, "in another order: class 0 is 'b', not"
    yield "names", {"train": good, "val": others}, {}, "got others: class 1 is 'c', not 'b'"
    yield "count", {"train": good, "val": more}, {}, "expected the 2 classes of training, got 3"
    yield "range", {"train": ([0, 1], None), "val": ([0, 2], None)}, {}, "label 2 in 1 row, first"
    yield "negative", {"train": ([0, -1], None)}, {}, "label -1 in 1 row, first in row 1"
    yield "conflict", {"train": good}, {"num_classes": 5}, "dataset.num_classes=5"


@pytest.mark.parametrize(
    ("splits", "settings", "message"),
    [pytest.param(*fault[1:], id=fault[0]) for fault in repository_faults()],
)
def test_faults_of_a_repository(tmp_path, table, hub, splits, settings, message):
    found = {name: table(rows, names=names) for name, (rows, names) in splits.items()}
    config = hub(tmp_path, **found)
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(DataError) as caught:
        load_splits(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_cannot_be_matched_with_names(tmp_path, picture, table):
    config = plain(tmp_path, "binary", [picture()] * 4)
    table([0, 1]).to_parquet(tmp_path / "data" / "val-00000-of-00001.parquet")
    # One repository has one schema, so the splits of a saved dataset have to do.
    train = datasets.Dataset.from_parquet(str(next((tmp_path / "data").glob("train*"))))
    train.save_to_disk(tmp_path / "disk" / "train")
    table([0, 1]).save_to_disk(tmp_path / "disk" / "val")
    (tmp_path / "disk" / "dataset_dict.json").write_text('{"splits": ["train", "val"]}')
    config.path = str(tmp_path / "disk")
    with pytest.raises(DataError, match="are numbers, but those of training are names"):
        load_splits(config)


def test_a_damaged_file_is_named_on_one_line(tmp_path, table, hub):
    config = hub(tmp_path, train=table([0, 1] * 9))
    (file,) = (tmp_path / "data").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="Parquet") as caught:
        load_splits(config)
    assert "\n" not in str(caught.value)


def test_a_loading_script_is_refused_and_not_run(tmp_path, table, hub):
    root = tmp_path / "pictures"
    config = hub(root, train=table([0, 1]))
    marker = tmp_path / "ran"
    (root / "pictures.py").write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(DataError, match="runs no code of a dataset"):
        load_splits(config)
    assert not marker.exists()


@pytest.mark.parametrize("path", ["parquet", "./gone", "/gone/away", "~/gone", "a/b/c", ""])
def test_paths_that_are_neither_local_nor_on_the_hub(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("?")
    if path:
        with pytest.raises(DataError, match="expected org/name or a directory, found nothing"):
            load_splits(DatasetConfig(kind=DatasetKind.hub, path=path))
    with pytest.raises(DataError, match="found a file"):
        load_splits(DatasetConfig(kind=DatasetKind.hub, path="file"))
    with pytest.raises(DataError, match="expected dataset.path=org/name"):
        load_splits(DatasetConfig(kind=DatasetKind.hub))


def test_files_that_hold_no_pictures(tmp_path):
    (tmp_path / "train.csv").write_text("image,label\na,1\n")
    with pytest.raises(DataError, match="expected files of parquet, .*, found csv"):
        load_splits(DatasetConfig(kind=DatasetKind.hub, path=str(tmp_path)))


def test_progress_bars_and_loggers_are_as_they_were(tmp_path, table, hub):
    was = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    load_splits(hub(tmp_path, train=table([0, 1] * 5)))
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == was
