"""Stored answers of a teacher: safetensors shards that are checked, merged and made again.

<folder>/
  identity.json                    what all of them are of, for a reader
  epoch-00003/000000000.safetensors  answers to a range of places, and which of them are there

An augmented sample is a function of (seed, epoch, place), so its answer is too. A place that has
an answer keeps it: whoever comes later reads what the first one was told.

Shapes: P places of a shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from vitx.errors import StorageError
from vitx.files import storage_errors, write_json
from vitx.objectives.encoding import Encoding
from vitx.objectives.shards import PRESENT, count_present, read_shard, write_shard
from vitx.paths import make_private

SCHEMA = 1
_SHARD_BYTES = 16 * 2**20
_OPEN_SHARDS = 2
_SAVE_EVERY_S = 30.0


@dataclass
class _Shard:
    """A range of places of one epoch.

    Attributes:
        tensors: [P, ...] each, and `present`, [P] bool.
        seen: what the file looked like when it was read; None where there was none.
        changed: whether there is more here than in the file.
    """

    tensors: dict[str, Tensor]
    seen: tuple[int, ...] | None
    changed: bool = False


class AnswerStore:
    """The stored answers of one teacher to the samples of one seed and augmentation.

    Args:
        folder: where stores lie; this one has a folder of its own, named by its identity.
        identity: all that decides an answer, as plain data.
        encoding: what is stored.
        places: of an epoch.
        say: takes what the user should know: damage, a full disk.
        read_only: nothing is written.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        encoding: Encoding,
        *,
        places: int,
        say: Callable[[str], None],
        read_only: bool = False,
    ) -> None:
        self.identity = {
            "schema": SCHEMA,
            **identity,
            "top_k": None if encoding.full else encoding.top_k,
            "precision": encoding.precision.name,
            "places": places,
        }
        text = json.dumps(self.identity, sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.folder = folder / self.digest[:16]
        self.encoding, self.places = encoding, places
        self._say, self._writes = say, not read_only
        self._shards: dict[tuple[int, int], _Shard] = {}
        self._saved_at = time.monotonic()

    @cached_property
    def shard_places(self) -> int:
        """P: a power of two, of about 16 MiB."""
        return 1 << max(8, math.floor(math.log2(_SHARD_BYTES / self.encoding.place_bytes)))

    def read(self, epoch: int, first: int, count: int) -> dict[str, Tensor] | None:
        """Return the stored tensors of `count` places from `first` on.

        Returns:
            [count, ...] tensors; None where any answer is missing.
        """
        found: list[dict[str, Tensor]] = []
        for key, part in self._parts(epoch, first, count):
            shard = self._open(key)
            if not shard.tensors[PRESENT][part].all():
                self._refresh(key, shard)  # another run may have been here
                if not shard.tensors[PRESENT][part].all():
                    return None
            found.append({name: shard.tensors[name][part] for name in self.encoding.columns})
        return _joined(found)

    def write(self, epoch: int, first: int, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep the answers to places from `first` on, where there is none yet.

        Returns:
            What is kept of these places now.
        """
        done, kept = 0, []
        for key, part in self._parts(epoch, first, len(stored["values"])):
            shard, count = self._open(key), part.stop - part.start
            new = ~shard.tensors[PRESENT][part]
            for name in self.encoding.columns:
                shard.tensors[name][part][new] = stored[name][done : done + count][new]
            shard.tensors[PRESENT][part] = True
            shard.changed = True
            kept.append({name: shard.tensors[name][part].clone() for name in self.encoding.columns})
            done += count
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.flush()
        return _joined(kept)

    def flush(self) -> None:
        """Write what is new; a disk that takes no more is told of once, and nothing is lost."""
        self._saved_at = time.monotonic()
        for key, shard in self._shards.items():
            if shard.changed and self._writes:
                try:
                    self._save(key, shard)
                except StorageError as error:
                    self._say(f"answers of the teacher are not stored any more: {error}")
                    self._writes = False

    def stored_places(self, epochs: int) -> int:
        """Return how many answers of the first `epochs` there are, by what the files say."""
        return sum(
            count_present(self._path(key), identity=self._identity(key))
            for key in self._keys(epochs)
        )

    def missing_bytes(self, epochs: int) -> int:
        """Return the room that the answers to the first `epochs` still need."""
        size = min(self.shard_places, self.places) * self.encoding.place_bytes
        held = [
            path.stat().st_size for key in self._keys(epochs) if (path := self._path(key)).exists()
        ]
        missing = epochs * self.places * self.encoding.place_bytes - sum(held)
        # One is written anew beside its old self.
        return missing + size if missing > 0 else 0

    def _keys(self, epochs: int) -> Iterator[tuple[int, int]]:
        for epoch in range(epochs):
            for number in range(-(-self.places // self.shard_places)):
                yield epoch, number

    def _identity(self, key: tuple[int, int]) -> str:
        """Return what a shard says of itself."""
        return f"{self.digest} epoch {key[0]} place {key[1] * self.shard_places}"

    def _parts(self, epoch: int, first: int, count: int) -> Iterator[tuple[tuple[int, int], slice]]:
        """Yield the shards that hold places, and which of their places these are."""
        size, end = self.shard_places, first + count
        while first < end:
            start = first % size
            here = min(size - start, end - first)
            yield (epoch, first // size), slice(start, start + here)
            first += here

    def _epoch_folder(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}"

    def _path(self, key: tuple[int, int]) -> Path:
        return self._epoch_folder(key[0]) / f"{key[1] * self.shard_places:09d}.safetensors"

    def _open(self, key: tuple[int, int]) -> _Shard:
        if key in self._shards:
            return self._shards[key]
        if len(self._shards) >= _OPEN_SHARDS:
            self.flush()
            del self._shards[next(iter(self._shards))]
        self._shards[key] = shard = self._empty(key)
        self._refresh(key, shard)
        return shard

    def _empty(self, key: tuple[int, int]) -> _Shard:
        size = min(self.shard_places, self.places - key[1] * self.shard_places)
        tensors = {
            name: torch.zeros(size, width, dtype=kind)
            for name, (width, kind) in self.encoding.columns.items()
        }
        return _Shard({**tensors, PRESENT: torch.zeros(size, dtype=torch.bool)}, seen=None)

    def _refresh(self, key: tuple[int, int], shard: _Shard) -> None:
        """Take over what the file has and the shard in memory has not."""
        path = self._path(key)
        seen = _look(path)
        if seen is None or seen == shard.seen:
            return
        shard.seen = seen
        held = self._load(key, shard)
        if held is None:
            shard.changed |= bool(shard.tensors[PRESENT].any())
            return
        # What is there already stays: its bits are what others have seen.
        there = held[PRESENT]
        for name, tensor in shard.tensors.items():
            tensor[there] = held[name][there]

    def _load(self, key: tuple[int, int], shard: _Shard) -> dict[str, Tensor] | None:
        """Return the tensors of a file; None, and a word about it, where it can't be trusted."""
        path = self._path(key)
        try:
            return read_shard(path, identity=self._identity(key), like=shard.tensors)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError) as error:
            self._say(f"{path} is damaged ({error}); the teacher is asked again")
            return None

    def _save(self, key: tuple[int, int], shard: _Shard) -> None:
        from filelock import FileLock

        path = self._path(key)
        with storage_errors(path):
            make_private(path.parent)
            with FileLock(self.folder / ".lock", timeout=60):
                self._describe()
                self._refresh(key, shard)  # nobody else can write between this and the rename
                write_shard(path, shard.tensors, identity=self._identity(key))
                shard.seen, shard.changed = _look(path), False

    def _describe(self) -> None:
        path = self.folder / "identity.json"
        if not path.is_file():
            write_json(path, self.identity)


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
