"""The manifest of a checkpoint: what has to be in the folder, byte for byte."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vitx.errors import StorageError

NAME = "manifest.json"
_NOT_AS_WRITTEN = (ValueError, LookupError, TypeError, RecursionError)
SCHEMA = 1


def write_manifest(folder: Path, *, step: int, finite: bool) -> None:
    """Describe every file in a folder: size in bytes and sha256."""
    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter's lock
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(paths, pool.map(sha256_of, paths), strict=True)
        }
    manifest = {"schema": SCHEMA, "step": step, "finite": finite, "files": files}
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest; raises OSError or ValueError where it is missing or damaged."""
    manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError(f"{NAME} is not a manifest")
    return manifest


def find_damage(folder: Path) -> str | None:
    """Check a folder against its manifest.

    Returns:
        What is wrong, naming the file, or None where every byte is as it was written.
    """
    try:
        manifest = read_manifest(folder)
        if manifest.get("schema") != SCHEMA:
            return f"{NAME} has schema {manifest.get('schema')}, this vitx reads {SCHEMA}"
        if set(manifest) != {"schema", "step", "finite", "files"}:
            return f"{NAME} has other entries than were written"
        if folder.name != f"step-{manifest['step']:08d}":
            return f"{NAME} is that of step {manifest['step']}"
        for name, expected in manifest["files"].items():
            if problem := _problem_of(folder / Path(name).name, expected):
                return problem
    except (OSError, *_NOT_AS_WRITTEN) as error:
        return f"{NAME} can't be read: {error}"
    return None


def find_file_damage(path: Path) -> str | None:
    """Check one file against the manifest beside it; a file without one passes."""
    if not path.with_name(NAME).is_file():
        return None
    try:
        return _problem_of(path, read_manifest(path.parent)["files"][path.name])
    except (OSError, *_NOT_AS_WRITTEN) as error:
        return f"{NAME} can't be read: {error}"


def _problem_of(path: Path, expected: dict[str, Any]) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"{path.name} has {path.stat().st_size} bytes, expected {expected['bytes']}"
    if sha256_of(path) != expected["sha256"]:
        return f"{path.name} has other content than was written (sha256 differs)"
    return None


def refuse_newer(folder: Path) -> None:
    """Raise StorageError for a checkpoint of a newer vitx: it is not damaged, only not for us."""
    try:
        schema = read_manifest(folder).get("schema")
    except (OSError, *_NOT_AS_WRITTEN):
        return
    if isinstance(schema, int) and schema > SCHEMA:
        raise StorageError(
            f"checkpoint {folder} has schema {schema}, this vitx reads {SCHEMA}; use a newer vitx"
        )


def is_proven_finite(folder: Path) -> bool:
    """Say whether every value was finite when the folder was written; not if nobody can tell."""
    try:
        return read_manifest(folder).get("finite") is True
    except (OSError, *_NOT_AS_WRITTEN):
        return False


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
