"""The dataset that needs no download: scikit-learn's handwritten digits."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from vitx.config.schema import DatasetConfig
from vitx.data.found import Found, FoundSplit
from vitx.errors import UsageError

_VAL_COUNT = 360


def read_digits(config: DatasetConfig) -> Found:
    """Return the 1,797 digits as 8 x 8 grey PNG, split once and for all.

    The split is scikit-learn's `train_test_split`, stratified, with `random_state=0`: 1,437 to
    train on and 360 to measure. Grey 0 to 16 becomes 0 to 255, rounded.

    Args:
        config: only checked; a path has no meaning here.

    Raises:
        UsageError: a path is given, so another kind of dataset was meant.
    """
    if config.path is not None:
        raise UsageError(
            f"dataset.path={config.path}: the digits have no path; add dataset=folder for class "
            "folders, or dataset=hub for a Hugging Face dataset"
        )
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    rows = np.arange(len(labels))
    train, val = train_test_split(rows, test_size=_VAL_COUNT, random_state=0, stratify=labels)
    grey = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Found(
        train=_split("train", grey, labels, np.sort(train)),
        val=_split("val", grey, labels, np.sort(val)),
    )


def _split(name: str, grey: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> FoundSplit:
    import datasets

    pictures = [{"bytes": _png(grey[row]), "path": None} for row in rows]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return FoundSplit(
        name=name,
        data=datasets.Dataset.from_dict({"image": pictures}, features=features),
        image_column="image",
        labels=pa.chunked_array([pa.array(labels[rows])]),
        where=f"digits: {name} labels",
        names=tuple("0123456789"),
    )


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Not compressed, so that no release of zlib changes the bytes or the fingerprint.
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
