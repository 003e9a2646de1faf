"""Class folders: `<path>/train/<class>/*.jpg`, and `val/` or the like beside `train/`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitx.config.schema import DatasetConfig
from vitx.data.found import Found, FoundSplit, choose_train, choose_val, listed
from vitx.errors import DataError
from vitx.escapes import visible_line

_NOUN = "folder of class folders"
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def read_folder(config: DatasetConfig, *, val_only: bool) -> Found:
    """Find the pictures below a directory; a class is the name of its folder.

    Hidden files are passed over; what has no extension of a picture is counted in the notes.
    The order of rows is that of class and path by code point, whatever the file system returns.
    Folders inside a class folder belong to the class. Symbolic links are followed.

    Args:
        config: the directory and the names of its splits.
        val_only: no training split is wanted.

    Returns:
        The splits, with class names for labels; no validation split where there is none.

    Raises:
        DataError: the directory, a split or the pictures of a class are missing.
    """
    root = _root(config)
    splits = _folders(root)
    where = f"dataset.path={config.path}"
    train: FoundSplit | None = None
    others: Counter[str] = Counter()
    notes: list[str] = []
    if not val_only:
        name = choose_train(splits, config, where=where, noun=_NOUN)
        train = _read_split(root / name, others)
    val_name = choose_val(splits, config, where=where, alone=val_only, noun=_NOUN)
    val = None if val_name is None else _read_split(root / val_name, others, allow_empty=True)
    if others:
        kinds = listed([f"{count} {suffix}" for suffix, count in sorted(others.items())])
        notes.append(f"{others.total()} files below {root} are no pictures, left out: {kinds}")
    return Found(train=train, val=val, notes=notes)


def _root(config: DatasetConfig) -> Path:
    if config.path is None:
        raise DataError("dataset=folder: expected dataset.path=<directory that holds train/>")
    root = Path(os.path.abspath(os.path.expanduser(config.path)))
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise DataError(f"dataset.path={config.path}: expected a directory, found {what} at {root}")
    return root


def _folders(parent: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(parent) if entry.is_dir())


def _read_split(split: Path, others: Counter[str], *, allow_empty: bool = False) -> FoundSplit:
    classes = _folders(split)
    others.update(_suffix(entry.name) for entry in _entries(split) if not entry.is_dir())
    if not classes:
        raise DataError(f"{split}: expected one folder per class, found none")
    files, numbers = [], []
    for number, name in enumerate(classes):
        found = sorted(pictures_below(split / name, others))
        if not found and not allow_empty:
            wanted = " ".join(sorted(EXTENSIONS))
            where = visible_line(str(split / name))
            raise DataError(f"{where}: expected pictures ({wanted}), found none")
        files.extend(found)
        numbers.append(np.full(len(found), number, np.int32))
    return _as_split(split, files, np.concatenate(numbers), classes)


def _as_split(split: Path, files: list[str], numbers: np.ndarray, classes: list[str]) -> FoundSplit:
    import datasets

    try:
        paths = pa.array(files, pa.string())
        names = pa.array(classes, pa.string())
    except UnicodeEncodeError as error:
        raise DataError(f"{split}: a name is not UTF-8: {error.object!r}") from error
    column = pa.StructArray.from_arrays(
        [pa.nulls(len(files), pa.binary()), paths], ["bytes", "path"]
    )
    data = datasets.Dataset(pa.table({"image": column}))
    labels = pa.DictionaryArray.from_arrays(pa.array(numbers), names)
    return FoundSplit(
        name=split.name,
        data=data.cast_column("image", datasets.Image(decode=False)),
        image_column="image",
        labels=pa.chunked_array([labels]),
        where=f"{split}: class folders",
    )


def pictures_below(
    folder: Path, others: Counter[str], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """Yield the paths of the pictures in a folder and those below it, in no order.

    Args:
        folder: where to look; hidden files and folders are passed over, symbolic links followed.
        others: counts the files that are no pictures, by their extension.
        above: device and inode of the folders on the way to it.

    Yields:
        Paths that begin with that of the folder.

    Raises:
        DataError: a folder can't be listed, or a link leads back.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        where = visible_line(str(folder))
        raise DataError(f"{where}: a symbolic link leads back to a folder above it")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from pictures_below(Path(entry.path), others, (*above, here))
        elif _suffix(entry.name) in EXTENSIONS:
            yield entry.path
        else:
            others[_suffix(entry.name)] += 1


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        where = visible_line(str(folder))
        raise DataError(f"{where}: can't be listed: {error.strerror}") from error


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without extension"
