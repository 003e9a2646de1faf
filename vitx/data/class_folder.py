"""A folder of class folders that was made to measure models, not to train them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitx.config.schema import DatasetConfig, DatasetKind
from vitx.data.folder import read_folder
from vitx.data.images import LabelledImages
from vitx.data.labels import class_numbers
from vitx.errors import DataError


def read_class_folder(
    folder: Path, *, names: Sequence[str], name: str, config: DatasetConfig
) -> tuple[LabelledImages, tuple[str, ...]]:
    """Read the pictures below a folder whose classes may be some of those that are known.

    Args:
        folder: holds a folder for each class.
        names: what the folders of the C classes are called, by class number.
        name: of the split.
        config: how pictures are read.

    Returns:
        The pictures in the order of class folder and file name, and lines the user should read.

    Raises:
        DataError: it is no such folder, or one is of no class.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a directory of class folders, found nothing there")
    own = replace(
        config,
        kind=DatasetKind.folder,
        path=str(folder.absolute().parent),
        val_split=folder.name,
        limit=None,
    )
    found = read_folder(own, val_only=True)
    split = found.wanted_val
    images = LabelledImages(
        name=name,
        data=split.data,
        image_column=split.image_column,
        labels=class_numbers(split.labels, classes=tuple(names), where=split.where),
    )
    return images, tuple(found.notes)
