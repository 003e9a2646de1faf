"""Frozen features: which layer and which tokens of a model stand for a picture.

Shapes: B batch, C channels, N patches, P prefix tokens, D width, H height and W width in patches.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitx.config.schema import Token
from vitx.errors import UsageError

CLASS, LAST4 = Token["class"], 4
_AS_MAPS: dict[str, Any] = {"norm": True, "stop_early": True, "output_fmt": "NCHW"}


@dataclass(frozen=True, kw_only=True)
class FeatureChoice:
    """Which features of a model.

    Attributes:
        token: `pre_logits` is what the classifier gets. `class` is the class token, `mean_patch`
            the mean of the patches or of the places of a map, without prefix tokens, both behind
            the model's last normalisation where it has one for them; `class_and_mean` the one and
            then the other. `last4_class` are the class tokens of the last four blocks, the last
            one last (DINO's linear evaluation of ViT-S).
        block: behind which block, from 0, or from -1 backwards; of models in stages, behind which
            stage, as timm's `forward_intermediates` counts them. None is the last.
    """

    token: Token = Token.pre_logits
    block: int | None = None


def features(model: nn.Module, images: Tensor, choice: FeatureChoice) -> Tensor:
    """Compute the features of pictures.

    A picture's features depend on the others of its batch by no more than rounding, in
    evaluation mode.

    Args:
        model: of timm, or built alike; in evaluation mode.
        images: [B, C, H px, W px].
        choice: which features.

    Returns:
        [B, D] float32.

    Raises:
        UsageError: the model has no such block or token.
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("features are of a model in evaluation mode")
    block = _block(model, choice)
    if choice.token is Token.pre_logits:
        return _pre_logits(model, images)
    if choice.token is Token.last4_class:
        blocks = range(block - LAST4 + 1, block + 1)
        return torch.cat([_class_of(each) for each in _behind(model, images, blocks)], 1)
    if choice.token is Token.mean_patch or _splits(model):
        (found,) = _behind(model, images, [block])
    else:
        found = _at_the_end(model, images, block)
    if choice.token is Token.mean_patch:
        return _mean(found.patches)
    if choice.token is CLASS:
        return _class_of(found)
    return torch.cat([_class_of(found), _mean(found.patches)], 1)


def refuse_choice(model: nn.Module, choice: FeatureChoice) -> None:
    """Refuse features that a model does not have, before a picture is computed.

    Raises:
        UsageError: it has no such block or token.
    """
    _block(model, choice)


def count_blocks(model: Any) -> int:
    """Return how many blocks, or stages, of a model can be named.

    Raises:
        UsageError: none can.
    """
    if not hasattr(model, "forward_intermediates"):
        raise UsageError(
            f"{_name(model)} does not tell its blocks; token=pre_logits is what it has"
        )
    return len(model.feature_info)


@dataclass(frozen=True)
class _Tokens:
    """What is behind a block: [B, D, H, W], and [B, P, D] where there are prefix tokens."""

    patches: Tensor
    prefix: Tensor | None


def _block(model: nn.Module, choice: FeatureChoice) -> int:
    """Return the number of the chosen block, from 0; -1 where the model need not tell its blocks.

    Raises:
        UsageError: the model has no such block or token.
    """
    if choice.token is Token.pre_logits:
        if choice.block is not None:
            raise UsageError(
                f"block={choice.block}: token=pre_logits is behind the last block; expected "
                "block=null, or another token"
            )
        if not hasattr(model, "forward_head"):
            raise UsageError(f"{_name(model)} does not tell what its classifier gets")
        return -1
    count = count_blocks(model)
    wanted = count - 1 if choice.block is None else choice.block
    block = wanted + count if wanted < 0 else wanted
    if not 0 <= block < count:
        raise UsageError(
            f"block={wanted}: {_name(model)} has {count} blocks; expected {-count} to {count - 1}"
        )
    if choice.token is Token.mean_patch:
        return block
    if getattr(model, "cls_token", None) is None:
        raise UsageError(
            f"token={choice.token.name}: {_name(model)} has no class token; "
            "expected pre_logits or mean_patch"
        )
    if not _splits(model) and (block != count - 1 or choice.token is Token.last4_class):
        raise UsageError(
            f"token={choice.token.name}: the class token of {_name(model)} is only there behind "
            "its last block; expected block=null with class or class_and_mean"
        )
    if choice.token is Token.last4_class and block < LAST4 - 1:
        raise UsageError(f"token=last4_class: there are no {LAST4} blocks up to block={wanted}")
    return block


def _behind(model: Any, images: Tensor, blocks: Sequence[int]) -> list[_Tokens]:
    """Return what is behind some blocks, normalised as timm does it; later ones are not run."""
    how: dict[str, Any] = {"return_prefix_tokens": True} if _splits(model) else {}
    found = model.forward_intermediates(
        images, indices=list(blocks), intermediates_only=True, **_AS_MAPS, **how
    )
    return [_Tokens(*each) if isinstance(each, tuple) else _Tokens(each, None) for each in found]


def _at_the_end(model: Any, images: Tensor, block: int) -> _Tokens:
    """Return what is behind the last block of XCiT, CaiT and PiT, and the class token after it."""
    last, (patches,) = model.forward_intermediates(images, indices=[block], **_AS_MAPS)
    return _Tokens(patches, last)


def _splits(model: Any) -> bool:
    """Return whether a model has its class token beside the patches in every block."""
    parameters = inspect.signature(model.forward_intermediates).parameters
    return "return_prefix_tokens" in parameters and getattr(model, "num_prefix_tokens", 0) > 0


def _class_of(tokens: _Tokens) -> Tensor:
    """Return [B, D]: the first prefix token is the class token in all of timm's models."""
    assert tokens.prefix is not None  # noqa: S101 (`_block` has seen to it)
    return tokens.prefix[:, 0].float()


def _mean(patches: Tensor) -> Tensor:
    return patches.float().mean((2, 3))


def _pre_logits(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return found.float().flatten(1)


def _name(model: nn.Module) -> str:
    return type(model).__name__
