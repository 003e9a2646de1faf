"""Tiny datasets that tests make for themselves."""

import functools
import io

import datasets
import pytest
from PIL import Image

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.decode import decode


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Keep what `datasets` makes of files away from the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def picture():
    """An encoded picture of one shade: picture(7) or picture(7, "BMP")."""
    return _picture


@pytest.fixture(scope="session")
def folder():
    """Class folders: folder(root, train={"cat": 3}) writes three pictures of class cat."""
    return _folder


@pytest.fixture(scope="session")
def table():
    """A dataset of pictures of shades 0, 1, ... with the given labels."""
    return _table


@pytest.fixture
def hub(own_cache):
    """A repository as the Hub lays it out: hub(root, train=table([0, 1]))."""
    return _hub


@pytest.fixture(scope="session")
def shades():
    """The shades of the pictures of a split, in order."""
    return _shades


@functools.cache
def _picture(shade=0, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 10, 20)).save(file, kind)
    return file.getvalue()


def _folder(root, **splits):
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.png").write_bytes(_picture(number))
    return DatasetConfig(kind=DatasetKind.folder, path=str(root))


def _table(labels, *, names=None, image="image", label="label", pictures=None):
    pictures = pictures or [_picture(number % 256) for number in range(len(labels))]
    feature = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    return datasets.Dataset.from_dict(
        {image: [{"bytes": data, "path": None} for data in pictures], label: labels},
        features=datasets.Features({image: datasets.Image(), label: feature}),
    )


def _hub(root, **splits):
    (root / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
    return DatasetConfig(kind=DatasetKind.hub, path=str(root))


def _shades(images):
    rows = (images.encoded(index) for index in range(len(images)))
    return [decode(row, channels=3, max_pixels=100).getpixel((0, 0))[0] for row in rows]
