"""`vitx import`: a foreign file of weights becomes safetensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vitx.config.plain import read
from vitx.config.resolve import resolve
from vitx.config.schema import ImportConfig, ModelConfig, PosResize, TrainConfig
from vitx.config.settings import options
from vitx.config.store import compose
from vitx.errors import StorageError, UsageError
from vitx.models.foreign import Imported, import_weights

if TYPE_CHECKING:
    from torch import nn


def main(args: list[str]) -> int:
    """Carry out `vitx import` with these arguments."""
    config, to = read_words(args)
    print("\n".join(bring_in(config, to)))
    print(f"written to {to}; model.weights={to}")
    return 0


def read_words(args: list[str]) -> tuple[ImportConfig, Path]:
    """Read the words behind `vitx import`.

    Returns:
        What was asked for, and the file that it is to become.

    Raises:
        UsageError: a word is wrong.
        StorageError: there is such a file already.
    """
    config = read("import", args, ImportConfig)
    if not config.file:
        raise UsageError("file: expected the name of a file; type vitx import FILE")
    to = Path(config.to) if config.to else Path(config.file).with_suffix(".safetensors")
    if to.suffix != ".safetensors":
        raise UsageError(f"to={to}: expected a name that ends in .safetensors")
    if to.exists():
        raise StorageError(f"{to} is there already; choose another with to=")
    return config, to


def bring_in(config: ImportConfig, to: Path) -> list[str]:
    """Turn a foreign file into safetensors; one that does not fit its model leaves nothing.

    Args:
        config: the file, and what it is for.
        to: where to write.

    Returns:
        Lines that say what is in it, and what became of it.
    """
    tried = None if config.model is None else _config_of(config.model)
    # Built before the file is read: what there is no model of is said at once.
    model = None if tried is None else _built(tried)
    name = tried.name if tried else None
    found = import_weights(Path(config.file), to, part=config.part, name=name)
    lines = [*_lines(found)]
    try:
        lines += _tried(model, tried.name, to) if model is not None and tried is not None else []
    except BaseException:
        to.unlink(missing_ok=True)  # it was made for this model
        raise
    return lines


def _config_of(word: str) -> ModelConfig:
    """Return the model that an option of `model=` or a name of timm stands for."""
    if word not in options("model") or word == "timm":
        return ModelConfig(name=word)
    return resolve(compose("train", [f"model={word}"]), TrainConfig).model


def _built(config: ModelConfig) -> nn.Module:
    from vitx.models.build import Fit, build_model

    return build_model(config, Fit(num_classes=1000, channels=3, image_px=config.image_px))


def _lines(found: Imported) -> Iterator[str]:
    part = f" of part {found.part}" if found.part else ""
    yield f"{found.tensors} tensors{part}, {found.parameters:,} values, all finite"
    if found.removed:
        yield f"prefixes removed: {', '.join(found.removed)}"
    if found.left_out:
        more = f" and {found.more_left_out} more" if found.more_left_out else ""
        yield f"left out: {', '.join(found.left_out)}{more}"


def _tried(model: nn.Module, name: str, file: Path) -> Iterator[str]:
    """Say what becomes of the weights in a model of its published size and 1000 classes."""
    from vitx.models.transfer import transfer

    told = transfer(model, file, source=str(file), resize=PosResize.bicubic, partial=True)
    yield f"in {name}: {told.loaded} tensors fit"
    yield from told.notes()
