"""Where weights to start from come from: a file here, a tag of timm, or a repository of the Hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitx.errors import StorageError, near_matches
from vitx.files import storage_errors
from vitx.models.build import tag_in, tags_of
from vitx.models.foreign import import_weights, mark
from vitx.paths import cache_dir, make_private
from vitx.runtime.torchvision_ops import declare_missing_ops

HUB = "hf-hub:"
_OF_PICTURES = ("img_size", "in_chans", "num_classes")  # which a model is built for
_unreached: set[tuple[str, str]] = set()  # its client tries for half a minute, each time
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def as_safetensors(file: Path, *, name: str) -> Path:
    """Return a file of weights as safetensors; a foreign one is imported into the cache first.

    Args:
        file: a weight file of any known kind.
        name: architecture, for kinds that need it.

    Raises:
        StorageError: it can't be imported.
    """
    if file.suffix == ".safetensors":
        return file
    before = mark(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    held = cache_dir() / "weights" / f"{digest}-{name}.safetensors"
    if not held.is_file():
        with storage_errors(held):
            make_private(held.parent)
        import_weights(file, held, name=name, replace=True)
        if mark(file) != before:
            held.unlink(missing_ok=True)
            raise StorageError(f"{file} changed while it was read; try again")
    return held


def is_remote(weights: str, *, name: str) -> bool:
    """Return whether weights are a tag of this architecture or a repository, not a path."""
    return weights.startswith(HUB) or bool(tag_in(weights, name=name))


def download(weights: str, *, name: str) -> Path:
    """Return the local file of a tag or a repository, fetched from the Hub where it is not here.

    Args:
        weights: a tag of the architecture, or `hf-hub:org/name`, with `@revision` where wanted.
        name: architecture.

    Raises:
        StorageError: it can't be had.
    """
    declare_missing_ops()
    from timm.models import get_pretrained_cfg

    place = weights.removeprefix(HUB)
    if not weights.startswith(HUB):
        cfg = get_pretrained_cfg(f"{name}.{tag_in(weights, name=name)}")
        place = cfg.hf_hub_id if cfg is not None and cfg.hf_hub_id else ""
        if not place:
            raise StorageError(f"model.weights={weights}: timm knows the tag, the Hub has no file")
    for filename in _HUB_FILES:
        if (path := _fetched(place, filename, weights=weights)) is not None:
            return as_safetensors(path, name=name)
    raise StorageError(f"model.weights={weights}: {place} has no {' and no '.join(_HUB_FILES)}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a repository of the Hub says of its model, in timm's words.

    Attributes:
        architecture: timm's name.
        args: its further arguments.
        patch_px: side of its patches, where that is among them.
        classes: names or descriptions of its classes in order; None where it tells none.
        num_classes: their number; None where it does not tell.
        image_px: side of its pictures.
        mean: of its normalisation.
        std: of its normalisation.
    """

    architecture: str | None
    args: dict[str, Any]
    patch_px: int | None
    classes: list[str] | None
    num_classes: int | None
    image_px: int | None
    mean: list[float] | None
    std: list[float] | None


def read_card(weights: str) -> Card:
    """Return what `hf-hub:org/name` says of itself in config.json.

    Raises:
        StorageError: it can't be had, or is no object.
    """
    path = _fetched(weights.removeprefix(HUB), "config.json", weights=weights)
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path else {}
        of_weights = said.get("pretrained_cfg") or {}
        names = said.get("label_names")
        size = of_weights.get("input_size") or (None,)
        args = {
            name: value
            for name, value in (said.get("model_args") or {}).items()
            if name not in _OF_PICTURES
        }
        return Card(
            architecture=said.get("architecture"),
            patch_px=args.pop("patch_size", None),
            args=args,
            classes=[str(name) for name in names] if isinstance(names, list) else None,
            num_classes=said.get("num_classes"),
            image_px=size[-1],
            mean=of_weights.get("mean"),
            std=of_weights.get("std"),
        )
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise StorageError(f"{weights}: its config.json can't be read: {error}") from error


def _fetched(place: str, filename: str, *, weights: str) -> Path | None:
    """Return a file of a repository, or None where it has no such file.

    Raises:
        StorageError: it can't be had.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = place.partition("@")
    asked = (constants.ENDPOINT, place)
    unreached = (
        f"model.weights={weights}: {repository} is not in the cache and the Hub can't be "
        "reached; download it elsewhere and name the file"
    )
    if asked in _unreached:
        raise StorageError(unreached)
    try:
        with _quiet():
            return Path(hf_hub_download(repository, filename, revision=revision or None))
    except LocalEntryNotFoundError as error:
        _unreached.add(asked)
        raise StorageError(unreached) from error
    except EntryNotFoundError:
        return None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"model.weights={weights}: {repository} can't be had from the Hub: {reason}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Its retries are announced with the whole address, in two lines each.
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def what_is_expected(weights: str, *, name: str) -> str:
    """Say what weights can be, where something is neither a path nor a tag."""
    hint = near_matches(weights, tags_of(name))
    tags = ", ".join(tags_of(name)) or "none"
    return (
        f"model.weights={weights}: expected a run, a file of weights, hf-hub:ORG/NAME or a tag of "
        f"{name}{hint or f' ({tags})'}"
    )
