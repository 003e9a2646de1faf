"""The manifest of a checkpoint: what has to be in the folder, byte for byte.

Schema 2 also vouches for itself: `sha256` is that of the other entries as compact JSON with sorted
keys. Every later schema has to keep that, so that one that is newer can be told from a damaged one.
Schema 1 lacked the entry and is still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitx.errors import StorageError

NAME = "manifest.json"
SCHEMA = 2
_ENTRIES = {"schema", "step", "finite", "files"}
_OTHER_CONTENT = f"{NAME} has other content than was written"
# What a hostile file can lead to.
_NOT_AS_WRITTEN = (LookupError, TypeError, RecursionError)
# Something else stands there, or nothing; other errors don't tell what stands there.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell a file that is not there from one that can't be read now.

    Raises:
        ValueError: it is not there; so it is damaged.
        StorageError: permission, a failing disk or share, or too many open files forbid to look.
            Whether it is damaged nobody knows, so nothing may be done to it.
    """
    try:
        yield
    except _MISSING as error:
        raise ValueError(f"{path.name} is missing") from error
    except OSError as error:
        raise StorageError(
            f"{path} can't be read: {error.strerror}; nothing was changed; see to that, or move "
            f"{path.parent.name} elsewhere to go on from the checkpoint before it"
        ) from error


def write_manifest(folder: Path, *, step: int, finite: bool) -> None:
    """Describe every file in a folder: size in bytes and sha256."""
    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter's lock
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(paths, pool.map(sha256_of, paths), strict=True)
        }
    manifest = {"schema": SCHEMA, "step": step, "finite": finite, "files": files}
    manifest["sha256"] = _own_digest(manifest)
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest.

    Raises:
        ValueError: it is missing or damaged; says how.
        StorageError: as of `reading`.
    """
    with reading(folder / NAME):
        content = (folder / NAME).read_bytes()
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{NAME} can't be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError(f"{NAME} is not a manifest")
    if "sha256" in manifest:
        if manifest["sha256"] != _own_digest(manifest):
            raise ValueError(f"{_OTHER_CONTENT} (its own sha256 differs)")
    elif manifest.get("schema") != 1 or set(manifest) != _ENTRIES:
        raise ValueError(f"{_OTHER_CONTENT} (entries are missing)")
    return manifest


def find_damage(folder: Path) -> str | None:
    """Check a folder against its manifest.

    Returns:
        What is wrong, naming the file, or None where every byte is as it was written.

    Raises:
        StorageError: as of `reading`.
    """
    try:
        manifest = read_manifest(folder)
        if manifest["schema"] not in (1, SCHEMA):
            return f"{NAME} has schema {manifest['schema']}, this vitx reads {SCHEMA}"
        if folder.name != f"step-{manifest['step']:08d}":
            return f"{NAME} is that of step {manifest['step']}"
        for name, expected in manifest["files"].items():
            if problem := _problem_of(folder / Path(name).name, expected):
                return problem
    except ValueError as error:
        return str(error)
    except _NOT_AS_WRITTEN as error:
        return f"{NAME} can't be read: {error}"
    return None


def find_file_damage(path: Path) -> str | None:
    """Check one file against the manifest beside it; a file without one passes.

    Returns:
        What is wrong with it, or None.

    Raises:
        StorageError: as of `reading`.
    """
    if not path.with_name(NAME).is_file():
        return None
    try:
        return _problem_of(path, read_manifest(path.parent)["files"][path.name])
    except ValueError as error:
        return str(error)
    except _NOT_AS_WRITTEN as error:
        return f"{NAME} can't be read: {error}"


def _problem_of(path: Path, expected: dict[str, Any]) -> str | None:
    with reading(path):
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path.name} has {size} bytes, expected {expected['bytes']}"
        if sha256_of(path) != expected["sha256"]:
            return f"{path.name} has other content than was written (sha256 differs)"
    return None


def refuse_newer(folder: Path) -> None:
    """Raise StorageError for a checkpoint of a newer vitx: it is not damaged, only not for us."""
    try:
        schema = read_manifest(folder).get("schema")
    except ValueError:
        return
    if isinstance(schema, int) and schema > SCHEMA:
        raise StorageError(
            f"checkpoint {folder} has schema {schema}, this vitx reads {SCHEMA}; use a newer vitx"
        )


def is_proven_finite(folder: Path) -> bool:
    """Say whether every value was finite when a folder was written.

    Returns:
        Whether its manifest says so; False where that is damaged.

    Raises:
        StorageError: as of `reading`.
    """
    try:
        return read_manifest(folder).get("finite") is True
    except ValueError:
        return False


def _own_digest(manifest: dict[str, Any]) -> str:
    entries = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
