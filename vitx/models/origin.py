"""Where weights to start from come from: a file here, a tag of timm, or a repository of the Hub."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from vitx.errors import StorageError, near_matches
from vitx.models.build import tag_in, tags_of
from vitx.models.foreign import import_weights, mark
from vitx.paths import cache_dir
from vitx.runtime.torchvision_ops import declare_missing_ops

HUB = "hf-hub:"
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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models import get_pretrained_cfg

    place = weights.removeprefix(HUB)
    if not weights.startswith(HUB):
        cfg = get_pretrained_cfg(f"{name}.{tag_in(weights, name=name)}")
        place = cfg.hf_hub_id if cfg is not None and cfg.hf_hub_id else ""
        if not place:
            raise StorageError(f"model.weights={weights}: timm knows the tag, the Hub has no file")
    repository, _, revision = place.partition("@")
    for filename in _HUB_FILES:
        try:
            with _quiet():
                path = hf_hub_download(repository, filename, revision=revision or None)
        except LocalEntryNotFoundError as error:
            raise StorageError(
                f"model.weights={weights}: {repository} is not in the cache and the Hub can't be "
                "reached; download it elsewhere and name the file"
            ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StorageError(
                f"model.weights={weights}: {repository} can't be had from the Hub: {reason}"
            ) from error
        return as_safetensors(Path(path), name=name)
    raise StorageError(
        f"model.weights={weights}: {repository} has no {' and no '.join(_HUB_FILES)}"
    )


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
