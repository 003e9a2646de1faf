"""`vitx import`: a foreign file of weights becomes safetensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vitx.config.plain import read
from vitx.config.schema import ImportConfig, ModelConfig
from vitx.config.settings import option_values, options
from vitx.errors import StorageError, UsageError
from vitx.models.foreign import Imported, import_weights

_SHOWN = 8


def main(args: list[str]) -> int:
    """Carry out `vitx import` with these arguments."""
    config = read("import", args, ImportConfig)
    file = Path(config.file)
    to = Path(config.to) if config.to else file.with_suffix(".safetensors")
    if to.suffix != ".safetensors":
        raise UsageError(f"to={to}: expected a name that ends in .safetensors")
    if to.exists():
        raise StorageError(f"{to} is there already; choose another with to=")
    model = None if config.model is None else _architecture(config.model)
    found = import_weights(file, to, part=config.part, name=model.name if model else None)
    lines = [*_lines(found)]
    try:
        lines += _tried(model, to) if model is not None else []
    except StorageError:
        to.unlink()  # it was made for this model
        raise
    print("\n".join(lines))
    print(f"written to {to}; model.weights={to}")
    return 0


def _architecture(word: str) -> ModelConfig:
    """Return the model that an option of `model=` or a name of timm stands for."""
    if word not in options("model") or word == "timm":
        return ModelConfig(name=word)
    values = option_values("model", word)
    return ModelConfig(name=values["model.name"], image_px=int(values.get("model.image_px", 224)))


def _lines(found: Imported) -> Iterator[str]:
    part = f" of part {found.part}" if found.part else ""
    yield f"{found.tensors} tensors{part}, {found.parameters:,} values, all finite"
    if found.removed:
        yield f"prefixes removed: {', '.join(found.removed)}"
    if found.left_out:
        more = f" and {len(found.left_out) - _SHOWN} more" if found.left_out[_SHOWN:] else ""
        yield f"left out: {', '.join(found.left_out[:_SHOWN])}{more}"


def _tried(config: ModelConfig, file: Path) -> Iterator[str]:
    """Say what becomes of the weights in a model of its published size and 1000 classes."""
    from vitx.config.schema import PosResize
    from vitx.models.build import Fit, build_model
    from vitx.models.transfer import transfer

    model = build_model(config, Fit(num_classes=1000, channels=3, image_px=config.image_px))
    told = transfer(model, file, source=str(file), resize=PosResize.bicubic, partial=True)
    yield f"in {config.name}: {told.loaded} tensors fit"
    yield from told.notes()
