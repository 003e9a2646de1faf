import numpy as np
import pytest

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.sources import load_splits
from vitx.errors import DataError


def test_class_folders(tmp_path, folder, shades):
    config = folder(tmp_path, train={"dog": 2, "cat": 3}, val={"cat": 1, "dog": 1})
    splits = load_splits(config)
    assert splits.classes == ("cat", "dog")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert splits.train.labels.dtype == np.int64
    assert shades(splits.train) == [0, 1, 2, 0, 1]
    assert splits.train.describe(4) == f"train row 4 ({tmp_path}/train/dog/1.png)"
    assert splits.notes == ()


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_names_of_a_validation_folder(tmp_path, folder, name):
    splits = load_splits(folder(tmp_path, train={"a": 3, "b": 3}, **{name: {"a": 1, "b": 1}}))
    assert (splits.val.name, len(splits.val)) == (name, 2)


def test_named_split_folders(tmp_path, folder):
    config = folder(tmp_path, Training={"a": 1, "b": 1}, Testing={"a": 2, "b": 1}, test={"a": 1})
    config.train_split, config.val_split = "Training", "Testing"
    splits = load_splits(config)
    assert (len(splits.train), len(splits.val)) == (2, 3)


def test_what_counts_as_a_picture(tmp_path, picture, folder):
    config = folder(tmp_path, train={"a": 1}, val={"a": 1})
    home = tmp_path / "train" / "a"
    for name in ("B.JPG", "c.Jpeg", "d.WEBP", "e.bmp", "é.png"):
        (home / name).write_bytes(picture())
    for name in ("notes.txt", "Thumbs.db", "x.gif", "none", ".hidden.png"):
        (home / name).write_bytes(b"?")
    (home / "deeper").mkdir()
    (home / "deeper" / "f.png").symlink_to(home / "0.png")
    (tmp_path / "train" / ".git").mkdir()
    (tmp_path / "train" / "README.md").write_text("?")
    splits = load_splits(config)
    names = [splits.train.describe(row).split("/a/")[1][:-1] for row in range(len(splits.train))]
    assert names == ["0.png", "B.JPG", "c.Jpeg", "d.WEBP", "deeper/f.png", "e.bmp", "é.png"]
    assert splits.train.encoded(4) == picture(0)
    (note,) = splits.notes
    assert note.startswith("5 files below") and "1 .gif" in note and "1 without extension" in note


def test_order_does_not_follow_the_file_system(tmp_path, folder, shades):
    forward = folder(tmp_path / "one", train={"a": 12, "b": 2}, val={"a": 1, "b": 1})
    for split in ("val", "train"):
        for name in ("b", "a"):
            target = tmp_path / "two" / split / name
            target.mkdir(parents=True)
            for source in sorted((tmp_path / "one" / split / name).iterdir(), reverse=True):
                (target / source.name).write_bytes(source.read_bytes())
    backward = DatasetConfig(kind=DatasetKind.folder, path=str(tmp_path / "two"))
    first, second = load_splits(forward), load_splits(backward)
    assert shades(first.train) == shades(second.train)
    assert first.fingerprint() == second.fingerprint()


def folder_faults():
    both = {"a": 2, "b": 2}
    yield "no directory", {}, {"path": "gone"}, "expected a directory, found nothing at"
    yield "flat", {"cat": {"x": 1}}, {}, "expected a folder of class folders 'train', found cat"
    yield "misspelt", {"trian": both}, {}, "did you mean 'trian'?"
    yield "empty class", {"train": {"a": 1, "b": 0}}, {}, "train/b: expected pictures (.bmp .jpeg"
    yield "no class", {"train": {}}, {"empty": "train"}, "expected one folder per class"
    yield "unknown class", {"train": both, "val": {"a": 1, "bb": 1}}, {}, "label 'bb' in 1 row"
    yield "no val split", {"train": both}, {"val_split": "dev"}, "class folders 'dev', found train"
    yield "one picture", {"train": {"a": 1, "b": 1}}, {}, "a hold-out needs two pictures"
    yield "conflict", {"train": both, "val": both}, {"num_classes": 3}, "num_classes=3"


@pytest.mark.parametrize(
    ("splits", "settings", "message"),
    [pytest.param(*fault[1:], id=fault[0]) for fault in folder_faults()],
)
def test_faults_of_class_folders(tmp_path, folder, splits, settings, message):
    config = folder(tmp_path, **splits)
    if "empty" in settings:
        (tmp_path / settings.pop("empty")).mkdir()
    if "path" in settings:
        settings["path"] = str(tmp_path / settings["path"])
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(DataError) as caught:
        load_splits(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_path_and_a_link_in_a_circle(tmp_path, folder):
    with pytest.raises(DataError, match="expected dataset.path"):
        load_splits(DatasetConfig(kind=DatasetKind.folder))
    config = folder(tmp_path, train={"a": 1, "b": 1})
    (tmp_path / "train" / "a" / "up").symlink_to(tmp_path / "train" / "a")
    with pytest.raises(DataError, match="leads back"):
        load_splits(config)


def test_a_class_without_validation_pictures_is_noted(tmp_path, folder):
    splits = load_splits(folder(tmp_path, train={"a": 2, "b": 2}, val={"a": 1, "b": 0}))
    assert splits.notes == ("val has no picture of b",)
