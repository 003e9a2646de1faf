"""One split of encoded pictures with their class numbers."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vitx.data.decode import BadImageError
from vitx.escapes import visible_line

if TYPE_CHECKING:
    import datasets

_THREADS, _PART = 16, 1024  # files asked for at once, and by one thread in a row
_SAMPLED = 1024


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """One split of N pictures. Cheap to send to a process where `data` lies in files.

    Attributes:
        name: the split of the dataset that the pictures come from.
        data: that split, pictures encoded as `{bytes, path}`.
        image_column: the column of pictures.
        labels: [N] int64 class numbers, all valid.
        rows: [N] int64 rows of `data`, or None for all of them in order.
    """

    name: str
    data: datasets.Dataset
    image_column: str
    labels: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64] | None = None
    _pictures: pa.ChunkedArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A row read from Arrow takes 1 microsecond, through `datasets` some 20.
        object.__setattr__(self, "_pictures", self.data.data.table.column(self.image_column))

    def __getstate__(self) -> dict[str, Any]:
        # Arrow would send the pictures themselves; `data` sends the names of its files.
        return {name: value for name, value in vars(self).items() if name != "_pictures"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, index: int) -> bytes:
        """Return picture `index` as the bytes of its file.

        Raises:
            BadImageError: there is none, or its file can't be read.
        """
        picture = self._pictures[self._row(index)]
        if not picture.is_valid:
            raise BadImageError("no picture (null)")
        data: bytes | None = picture["bytes"].as_py()
        if data is not None:
            return data
        path = picture["path"].as_py()
        if path is None:
            raise BadImageError("no picture (null)")
        return read_encoded(path)

    def describe(self, index: int) -> str:
        """Name picture `index` for an error, such as `train row 17 (rose/3.jpg)`."""
        row = self._row(index)
        path = self._pictures[row]["path"].as_py()
        return f"{self.name} row {row}" + (f" ({visible_line(path)})" if path else "")

    def file_names(self) -> list[str]:
        """Return the name of every picture's file with that of its folder; "" where it has none.

        A picture in a table has what the table says, which is a name without a folder as a rule.
        """
        paths = pc.struct_field(self._pictures, "path")
        rows = None if self.rows is None else pa.array(self.rows)
        listed = (paths if rows is None else paths.take(rows)).to_pylist()
        return ["/".join((path or "").split("/")[-2:]) for path in listed]

    def chosen(self, places: npt.NDArray[np.bool_]) -> LabelledImages:
        """Return the pictures that [N] marks choose."""
        rows = np.flatnonzero(places)
        own = rows if self.rows is None else self.rows[rows]
        return replace(self, rows=own, labels=self.labels[rows])

    def contents(self) -> bytes:
        """Return the size of every picture, and the names of those in files: cheap to know.

        Folders are left out, since they differ between machines; classes are in the labels.
        """
        # Of a picture in memory or in Arrow files only its offsets are read, never its bytes.
        lengths = pc.binary_length(pc.struct_field(self._pictures, "bytes"))
        sizes: npt.NDArray[np.int64] = pc.fill_null(lengths, -1).to_numpy().astype("<i8")
        rows = np.arange(len(sizes)) if self.rows is None else self.rows
        outside = rows[sizes[rows] < 0]
        paths = pc.struct_field(self._pictures, "path").take(pa.array(outside)).to_pylist()
        sizes[outside] = _file_sizes(paths)
        names = "\0".join(os.path.basename(path or "") for path in paths)
        return sizes[rows].tobytes() + names.encode()

    def sample(self) -> bytes:
        """Return a digest of the bytes of up to 1,024 pictures, spread evenly over the split.

        What `contents` can't see: pictures that were changed and kept their size.
        """
        digest = hashlib.sha256()
        rows = np.linspace(0, len(self) - 1, min(len(self), _SAMPLED), dtype=np.int64)
        with ThreadPoolExecutor(_THREADS) as pool:
            for picture in pool.map(self._digest, rows.tolist()):
                digest.update(picture)
        return digest.digest()

    def _digest(self, index: int) -> bytes:
        try:
            return hashlib.sha256(self.encoded(index)).digest()
        except BadImageError as reason:
            return str(reason).encode()

    def _row(self, index: int) -> int:
        return int(index if self.rows is None else self.rows[index])


def _file_sizes(paths: list[str | None]) -> list[int]:
    # On a network disk a file takes a millisecond, and there may be a million.
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            size
            for part in pool.map(lambda part: list(map(_file_size, part)), parts)
            for size in part
        ]


def _file_size(path: str | None) -> int:
    try:
        return os.stat(path).st_size if path else -1
    except (OSError, ValueError):
        return -1


def read_encoded(path: str) -> bytes:
    """Return a picture's file as it is.

    Raises:
        BadImageError: it is no regular file, or can't be read.
    """
    try:
        # A path may come out of a stranger's parquet: a pipe or device would never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadImageError("no regular file")
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (half the time of Path's)
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadImageError(f"can't be read: {reason}") from error
