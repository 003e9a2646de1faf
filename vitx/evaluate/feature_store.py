"""Features that are computed once: safetensors shards that are checked and made again.

<folder>/<digest>/
  identity.json            what they are of, for a reader
  000008192.safetensors    features of a range of rows, and which rows have some

A shard is there whole or not at all, so that an interrupted computation goes on behind the last.

Shapes: N rows of a split, R rows of a shard, D width.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from vitx.config.schema import Precision
from vitx.errors import StorageError
from vitx.evaluate.features import FeatureChoice
from vitx.files import storage_errors, write_json
from vitx.objectives.shards import PRESENT, read_shard, write_shard
from vitx.paths import make_private
from vitx.records import PictureFormat

SCHEMA = 1
_SHARD_BYTES = 16 * 2**20
_OTHERS = "features of another model, layer, dataset or row"
_LIBRARIES = ("vitx", "torch", "torchvision", "timm", "numpy", "pillow")


def identity(
    *,
    weights_sha256: str,
    model: Mapping[str, Any],
    pictures: PictureFormat,
    crop: Mapping[str, Any],
    dataset: Mapping[str, Any],
    choice: FeatureChoice,
    precision: Precision,
    device: str,
) -> dict[str, Any]:
    """Return all that decides the features of a split, as plain data.

    Args:
        weights_sha256: of the weights' contents.
        model: the architecture, as plain data.
        pictures: what it sees.
        crop: how a picture is brought to that size, as plain data.
        dataset: fingerprint and split, as plain data.
        choice: which features.
        precision: of the forward pass.
        device: kind of device; the number of threads moves last bits only and is left out.
    """
    return {
        "weights": weights_sha256,
        "model": dict(model),
        "pictures": asdict(pictures),
        "crop": dict(crop),
        "dataset": dict(dataset),
        "token": choice.token.name,
        "block": choice.block,
        "computed": [device, precision.name],
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


@dataclass
class Held:
    """The features of a split as far as they are there.

    Attributes:
        features: [N, D] in the type that they are stored in; 0 where there are none.
        present: [N] bool, rows that have features: not those of pictures that can't be decoded.
        missing: ranges of rows whose shards are not there.
    """

    features: Tensor
    present: Tensor
    missing: list[range]

    @property
    def rows(self) -> Tensor:
        """[n] int64, the rows that have features."""
        return self.present.nonzero()[:, 0]


class FeatureStore:
    """The stored features of one split by one model.

    Args:
        folder: where stores lie; this one has a folder of its own, named by its identity.
        identity: all that decides a feature, as plain data; see `identity`.
        rows: N.
        width: D.
        dtype: of the stored numbers.
        say: takes what the user should know: damage, a full disk.
        read_only: nothing is written.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        rows: int,
        width: int,
        dtype: torch.dtype = torch.float32,
        say: Callable[[str], None],
        read_only: bool = False,
    ) -> None:
        told = {"rows": rows, "width": width, "stored": str(dtype).removeprefix("torch.")}
        self.identity = {"schema": SCHEMA, **identity, **told}
        text = json.dumps(self.identity, sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.folder = folder / self.digest[:16]
        self.rows, self.width, self.dtype = rows, width, dtype
        self._say, self._writes = say, not read_only

    @cached_property
    def shard_rows(self) -> int:
        """R: a power of two, of about 16 MiB."""
        row_bytes = 1 + self.width * self.dtype.itemsize
        return 1 << max(8, math.floor(math.log2(_SHARD_BYTES / row_bytes)))

    def read(self) -> Held:
        """Return all that is stored; a damaged shard is told of and counts as missing."""
        held = Held(
            features=torch.zeros(self.rows, self.width, dtype=self.dtype),
            present=torch.zeros(self.rows, dtype=torch.bool),
            missing=[],
        )
        for first in range(0, self.rows, self.shard_rows):
            part = range(first, min(first + self.shard_rows, self.rows))
            found = self._load(part)
            if found is None:
                held.missing.append(part)
            else:
                some = slice(part.start, part.stop)
                held.features[some], held.present[some] = found["features"], found[PRESENT]
        return held

    def write(self, part: range, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the features of a shard, unless somebody else has meanwhile.

        A disk that takes no more is told of once, and nothing is lost.

        Args:
            part: one of the ranges that `read` found missing.
            features: [R, D].
            present: [R] bool, rows that have some.

        Returns:
            What is kept of them, in the type that they are stored in.
        """
        new = {"features": features.to("cpu", self.dtype).contiguous(), PRESENT: present.cpu()}
        if self._writes:
            try:
                new = self._save(part, new)
            except StorageError as error:
                self._say(f"features are not stored any more: {error}")
                self._writes = False
        return new["features"], new[PRESENT]

    def missing_bytes(self, held: Held) -> int:
        """Return the room that what is missing takes."""
        count = sum(len(part) for part in held.missing)
        return count * (1 + self.width * self.dtype.itemsize)

    def _path(self, part: range) -> Path:
        return self.folder / f"{part.start:09d}.safetensors"

    def _told(self, part: range) -> str:
        """Return what a shard says of itself."""
        return f"{self.digest} row {part.start}"

    def _load(self, part: range) -> dict[str, Tensor] | None:
        """Return the tensors of a shard; None, and a word about it, where it can't be trusted."""
        path = self._path(part)
        like = {
            "features": torch.empty(len(part), self.width, dtype=self.dtype, device="meta"),
            PRESENT: torch.empty(len(part), dtype=torch.bool, device="meta"),
        }
        try:
            return read_shard(path, identity=self._told(part), like=like, others=_OTHERS)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError) as error:
            self._say(f"{path} is damaged ({error}); its features are computed again")
            return None

    def _save(self, part: range, new: dict[str, Tensor]) -> dict[str, Tensor]:
        from filelock import FileLock

        path = self._path(part)
        with storage_errors(path):
            make_private(self.folder)
            with FileLock(self.folder / ".lock", timeout=60):
                if path.is_file() and (kept := self._load(part)) is not None:
                    return kept  # others may have seen its bits
                if not (self.folder / "identity.json").is_file():
                    write_json(self.folder / "identity.json", self.identity)
                write_shard(path, new, identity=self._told(part))
        return new
