"""Weights of another training into a model: a new head, positions of another grid, a clear account.

Shapes: N tokens of the position embedding, prefix tokens included, D width.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitx.config.schema import PosResize
from vitx.errors import StorageError
from vitx.models.weights import kind_of

_SHOWN = 4
# Interpolation, antialiasing, aligned corners.
_WAYS: dict[PosResize, tuple[str, bool, bool | None]] = {
    PosResize.bicubic: ("bicubic", False, False),
    PosResize.bicubic_antialias: ("bicubic", True, None),
    PosResize.bilinear: ("bilinear", False, True),
}


@dataclass(kw_only=True)
class Transfer:
    """What became of the tensors of a file.

    Attributes:
        source: where they came from, as it was typed.
        file: that this meant.
        sha256: of its bytes.
        loaded: number of tensors that were taken over.
        head: why the classifier is a new one; empty where it was taken over.
        positions: what happened to the position embedding; empty where nothing had to.
        distillation: how the distillation token begins, where the file has none.
        channels: what happened to the first convolution, where pictures have other channels.
        missing: parameters of the model that the file does not have.
        left_over: tensors of the file that the model has no place for.
    """

    source: str
    file: str
    sha256: str
    loaded: int = 0
    head: str = ""
    positions: str = ""
    distillation: str = ""
    channels: str = ""
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """What was typed, and the file that it meant where that is another."""
        return self.source if self.source == self.file else f"{self.source} ({self.file})"

    def notes(self) -> Iterator[str]:
        """Yield what a user should know, a line each."""
        if self.head:
            yield f"new head: {self.head}"
        if self.distillation:
            yield self.distillation
        if self.positions:
            yield self.positions
        if self.channels:
            yield self.channels
        for what, names in (("missing", self.missing), ("left over", self.left_over)):
            if names:
                yield f"{len(names)} tensors {what}: {', '.join(names)}"


def transfer(
    model: nn.Module,
    path: Path,
    *,
    source: str,
    resize: PosResize,
    partial: bool,
    classes: Sequence[str] | None = None,
    classes_there: Sequence[str] | None = None,
) -> Transfer:
    """Load weights into a model that was built for other classes or another picture size.

    Names of the published files are brought to timm's. A classifier of other classes stays as the
    model was initialised. A position embedding of another grid is resampled, its prefix tokens
    untouched; one of the same grid is taken over bit for bit.

    Args:
        model: receives the values, in place.
        path: a `.safetensors` file.
        source: what it is called in the account.
        resize: how a position embedding is brought to another grid.
        partial: go on where tensors are missing or left over.
        classes: class names of the dataset.
        classes_there: class names that the weights were trained for, where known.

    Returns:
        What became of the tensors.

    Raises:
        StorageError: the file can't be read, or is for another model.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{source} can't be read as safetensors: {error}") from error
    for name, tensor in found.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise StorageError(f"{source}: {name} has values that are not finite")
    from vitx.models.architectures.distillation_token import begin_as_class_token  # imports timm

    completed = begin_as_class_token(model, found)
    told = Transfer(source=source, file=str(path), sha256=_sha256(path))
    if completed is not found:
        told.distillation = "distillation token: a copy of the class token, its head of the other"
        found = completed
    wanted = model.state_dict()
    before = found.get("pos_embed")
    try:
        _refuse_other_patches(model, found)
        tensors = _renamed(model, _without_class_position(model, found), resize)
    except (RuntimeError, ValueError, AssertionError, KeyError, AttributeError) as error:
        raise StorageError(f"{source}: weights of another model: {error}") from error
    told.channels = _fit_channels(model, tensors, wanted)
    told.left_over = sorted(name for name in found if "pre_logits" in name)
    told.positions = _about_positions(model, before, tensors.get("pos_embed"), resize)
    other = _other_classes(classes, classes_there)
    for name in _classifiers(model):
        reason = _why_new_head(name, tensors, wanted) or other
        if reason:
            told.head = reason
            for part in (f"{name}.weight", f"{name}.bias"):
                tensors.pop(part, None)
                wanted.pop(part, None)
    _refuse_shapes(source, tensors, wanted)
    told.missing = sorted(wanted.keys() - tensors.keys())
    told.left_over += sorted(tensors.keys() - wanted.keys())
    if (told.missing or told.left_over) and not partial:
        raise StorageError(f"{source}: {_mismatch(told)}")
    shared = wanted.keys() & tensors.keys()
    if not shared:
        raise StorageError(f"{source}: weights of another model: no tensor of it has a name of it")
    with torch.no_grad():
        for name in shared:
            wanted[name].copy_(tensors[name])
    told.loaded = len(shared)
    return told


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _renamed(model: nn.Module, found: dict[str, Tensor], resize: PosResize) -> dict[str, Tensor]:
    """Return tensors by timm's names, the position embedding on the model's grid."""
    from timm.models import vision_transformer, xcit

    tensors = dict(found)
    if isinstance(model, xcit.Xcit):
        return dict(xcit.checkpoint_filter_fn(tensors, model))
    if isinstance(model, vision_transformer.VisionTransformer):
        interpolation, antialias, align_corners = _WAYS[resize]
        return dict(
            vision_transformer.checkpoint_filter_fn(
                tensors,
                model,
                adapt_layer_scale=True,  # DeiT III's gamma_1 is timm's ls1.gamma
                interpolation=interpolation,
                antialias=antialias,
                align_corners=align_corners,
            )
        )
    own = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(own(tensors, model)) if own is not None else tensors


def _refuse_other_patches(model: Any, found: dict[str, Tensor]) -> None:
    """Refuse patches of another size, which timm would resample without a word.

    Raises:
        ValueError: they are.
    """
    cut = getattr(getattr(model, "patch_embed", None), "proj", None)
    there = found.get("patch_embed.proj.weight")
    if isinstance(cut, nn.Sequential) and there is not None:
        raise ValueError("it has a linear stem, this model a convolutional one")
    if isinstance(cut, nn.Conv2d) and there is not None and there.ndim == cut.weight.ndim:
        sizes = there.shape[2:], cut.weight.shape[2:]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"its patches have {sizes[0][0]} px, those of this model {sizes[1][0]}"
            )


def _without_class_position(model: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, the position of the class token taken off where the model has none."""
    has_none = getattr(model, "cls_token", None) is None and hasattr(model, "pos_embed")
    positions = found.get("pos_embed")
    if not has_none or "cls_token" not in found or positions is None or model.no_embed_class:
        return found
    return found | {"pos_embed": positions[:, 1:]}


def _fit_channels(model: Any, tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """Bring the first convolution to the channels of the pictures, in place, as timm does."""
    from timm.models import adapt_input_conv

    first = getattr(model, "pretrained_cfg", {}).get("first_conv") or ()
    said = ""
    for name in (first,) if isinstance(first, str) else tuple(first):
        weight = f"{name}.weight"
        if weight not in tensors or weight not in wanted:
            continue
        there, here = tensors[weight].shape[1], wanted[weight].shape[1]
        if there == 3 and here == 1:
            tensors[weight] = adapt_input_conv(1, tensors[weight])
            said = "first convolution: its 3 channels summed for grey pictures"
    return said


def _about_positions(
    model: Any, before: Tensor | None, after: Tensor | None, resize: PosResize
) -> str:
    from timm.models.xcit import Xcit

    if isinstance(model, Xcit):
        return "positions: Fourier features of any grid, nothing to resample"
    if before is None or after is None or before.shape == after.shape:
        return ""
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    sides = [round((tensor.shape[1] - prefix) ** 0.5) for tensor in (before, after)]
    return f"positions: {sides[0]} x {sides[0]} resampled to {sides[1]} x {sides[1]}, {resize.name}"


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    names = getattr(model, "pretrained_cfg", {}).get("classifier")
    return (names,) if isinstance(names, str) else tuple(names or ())


def _why_new_head(name: str, tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    weight = f"{name}.weight"
    if weight not in tensors:
        return "the file has none"
    there, here = len(tensors[weight]), len(wanted[weight])
    return "" if there == here else f"{there} classes there, {here} here"


def _other_classes(classes: Sequence[str] | None, there: Sequence[str] | None) -> str:
    if classes is None or there is None or list(classes) == list(there):
        return ""
    return "the same number of classes, but other ones or in another order"


def _refuse_shapes(source: str, tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    other = [
        f"{name} is {list(tensors[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    other += [
        f"{name} is {tensors[name].dtype}, expected {tensor.dtype}"
        for name, tensor in wanted.items()
        if name in tensors and kind_of(tensors[name]) != kind_of(tensor)
    ]
    if other:
        count = f"{len(other)} tensors of other shape or type"
        raise StorageError(f"{source}: weights of another model: {count} ({_few(other)})")


def _mismatch(told: Transfer) -> str:
    parts = [
        f"{len(names)} tensors {what} ({_few(names)})"
        for what, names in (("missing", told.missing), ("left over", told.left_over))
        if names
    ]
    return f"{'; '.join(parts)}; model.partial_weights=true goes on without them"


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
