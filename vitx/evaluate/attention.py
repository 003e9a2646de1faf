"""Where a transformer looks: the softmax weights of its attention, and one map of a picture.

Sources: attention rollout, S. Abnar, W. Zuidema, Quantifying Attention Flow in Transformers
(arXiv 2005.00928); class attention, H. Touvron et al., CaiT (arXiv 2103.17239), as in XCiT
(A. El-Nouby et al., arXiv 2106.09681).

Shapes: B batch, C channels, h heads, N tokens, P prefix tokens, H height and W width in patches;
N = P + H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vitx.errors import UsageError

Keep = Callable[[Tensor], Tensor]
RESIDUAL = 0.5
"""Share of a token that a layer leaves where it is, in a rollout."""


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """How the attention that leads to the classifier is shared out; a picture's shares sum to 1.

    Attributes:
        patches: [B, H, W] float64 share of each patch.
        prefix: [B, P] float64 share of each prefix token, the class token first.
    """

    patches: Tensor
    prefix: Tensor


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model's attention becomes a map.

    Attributes:
        what: in words.
        layers: whose weights it takes, all that are alike in the model.
        prefix: P.
        join: from their weights, mean over the heads, to [B, N] shares.
    """

    what: str
    layers: tuple[nn.Module, ...]
    prefix: int
    join: Callable[[Sequence[Tensor]], Tensor]


def find_way(model: nn.Module) -> Way:
    """Return how a model's attention becomes a map.

    - Of a ViT or DeiT whose classifier reads the class token: rollout, its row. The weights of a
      layer are the mean over its heads, mixed half and half with the identity for the residual
      connection, and multiplied through the layers. MLPs, values and LayerScale are left out; a
      distillation token is one of the tokens on the way, its own row is not read.
    - Of one that reads the mean of its patches: rollout, the mean of their rows.
    - Of XCiT and CaiT: what the class token reads of the patches in the class-attention layers,
      mean over heads and layers. XCiT's other layers attend among channels and have no map, so
      what a patch has taken from others before is not seen.

    Args:
        model: of timm, or built alike.

    Raises:
        UsageError: it has no attention, or none among all patches of a picture.
    """
    classes = _class_attention(model)
    reads = getattr(model, "global_pool", None)
    if classes and reads == "token":
        return Way(
            what=f"class attention, mean over heads and {len(classes)} layers",
            layers=classes,
            prefix=1,
            join=_mean_of_layers,
        )
    layers = _self_attention(model)
    prefix = getattr(model, "num_prefix_tokens", None)
    if layers and isinstance(prefix, int):
        if reads == "token" and prefix:
            what, start = "row of the class token", _first
        elif reads == "avg":
            what, start = "mean of the patches' rows", partial(_all_patches, prefix)
        else:
            raise UsageError(f"{_name(model)} reads its tokens by '{reads}': no attention map")
        return Way(
            what=f"attention rollout of {len(layers)} layers, mean over heads, residual "
            f"{RESIDUAL}, {what}",
            layers=layers,
            prefix=prefix,
            join=partial(_from_the_end, start),
        )
    if any("attn" in name or "attention" in name.lower() for name in _kinds(model)):
        raise UsageError(
            f"{_name(model)} has no attention map: its attention is not among all patches of a "
            "picture, but in windows, stages or channels"
        )
    raise UsageError(f"{_name(model)} has no attention map: it has no attention")


@torch.no_grad()
def attention_map(model: nn.Module, images: Tensor) -> AttentionMap:
    """Compute the attention maps of pictures, in float32 whatever autocast is around it.

    The model is evaluated, and left as it was: modes, weights, gradients, fused attention, hooks.
    No random numbers are drawn.

    Args:
        model: on the device of the pictures, neither compiled, which passes hooks by, nor wrapped;
            see `find_way`.
        images: [B, C, H px, W px].

    Returns:
        The maps, on the CPU.

    Raises:
        UsageError: the model has none.
    """
    way = find_way(model)
    with (
        _evaluating(model),
        torch.autocast(images.device.type, enabled=False),
        recorded(way.layers, keep=_mean_of_heads) as weights,
    ):
        model(images)
    height_px, width_px = images.shape[-2:]
    patches = weights[0].shape[-1] - way.prefix if weights else 0
    height = math.isqrt(max(0, patches) * height_px // width_px)
    width = patches // height if height else 0
    square = height * width == patches and height * width_px == width * height_px
    if (
        not square
        or len(weights) != len(way.layers)
        or {each.shape for each in weights} != {weights[0].shape}
    ):
        raise UsageError(
            f"{_name(model)} has no attention map: not every layer has all patches of a picture"
        )
    shares = way.join(weights)
    return AttentionMap(
        patches=shares[:, way.prefix :].unflatten(1, (height, width)),
        prefix=shares[:, : way.prefix],
    )


@contextmanager
def recorded(layers: Iterable[nn.Module], keep: Keep = torch.clone) -> Iterator[list[Tensor]]:
    """Have attention layers compute their softmax weights, and record them.

    Fused attention never has them. So it is switched off for the time being; what a layer puts out
    then differs by rounding. Dropout of weights comes after what is recorded.

    Args:
        layers: timm's, each with a switch `fused_attn` and a module `attn_drop` that is given the
            softmax weights, [B, h, queries, N].
        keep: takes the weights and returns what to record of them, to save memory.

    Yields:
        What was kept of every call, in their order; it fills as the model computes.
    """
    found: list[Tensor] = []

    def hear(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(keep(given[0].detach()))

    changed = [(layer, layer.fused_attn) for layer in layers]
    handles = []
    try:
        for layer, _ in changed:
            handles.append(layer.attn_drop.register_forward_pre_hook(hear))  # type: ignore[union-attr]
            layer.fused_attn = False  # type: ignore[assignment]
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for layer, fused in changed:
            layer.fused_attn = fused


def rollout(weights: Sequence[Tensor], start: Tensor) -> Tensor:
    """Follow attention from the last layer to the first.

    With A_l the weights of layer l this is start (r I + (1 - r) A_L) ... (r I + (1 - r) A_1), r the
    residual share: that row of the rollout which `start` chooses, or a mean of rows. One row takes
    a product of vector and matrix a layer, where the whole takes one of matrices.

    Args:
        weights: [B, N, N] of each layer, first layer first; rows sum to 1.
        start: [N] shares of the tokens behind the last layer, that sum to 1.

    Returns:
        [B, N] float64 shares of the tokens in front of the first layer; they sum to 1.
    """
    row = start.double().to(weights[-1].device).expand(len(weights[-1]), 1, -1)
    for each in reversed(weights):
        row = RESIDUAL * row + (1 - RESIDUAL) * row @ each.double()
    return row.squeeze(1)


def _first(tokens: int) -> Tensor:
    return torch.eye(tokens)[0]


def _all_patches(prefix: int, tokens: int) -> Tensor:
    rows = torch.zeros(tokens, dtype=torch.float64)
    rows[prefix:] = 1 / (tokens - prefix)
    return rows


def _from_the_end(start: Callable[[int], Tensor], weights: Sequence[Tensor]) -> Tensor:
    return rollout(weights, start(weights[-1].shape[-1]))


def _mean_of_layers(weights: Sequence[Tensor]) -> Tensor:
    """Return [B, N] of weights [B, 1, N] of each layer."""
    return torch.stack([each.double().squeeze(1) for each in weights]).mean(0)


def _mean_of_heads(weights: Tensor) -> Tensor:
    # On the CPU: not every device has float64, and a layer of ViT-B/8 has 30 MB a picture else.
    return weights.float().mean(1).cpu()


def _class_attention(model: nn.Module) -> tuple[nn.Module, ...]:
    # The package declares what timm needs before it can be imported.
    from vitx.models.architectures import cifar_vit  # noqa: F401, I001
    from timm.models.cait import ClassAttn

    return tuple(each for each in model.modules() if isinstance(each, ClassAttn))


def _self_attention(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layer of each block, where all blocks have one that tells its weights."""
    from timm.models.xcit import XCA

    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)):
        return ()
    layers = tuple(getattr(block, "attn", None) for block in blocks)
    told = all(
        isinstance(each, nn.Module)
        and not isinstance(each, XCA)
        and hasattr(each, "fused_attn")
        and isinstance(getattr(each, "attn_drop", None), nn.Module)
        for each in layers
    )
    return layers if told else ()  # type: ignore[return-value]


def _kinds(model: nn.Module) -> set[str]:
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return names | {type(each).__name__ for each in model.modules()}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode; each of its modules goes back to the mode it was in."""
    before = [(each, each.training) for each in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for each, training in before:
            each.training = training


def _name(model: nn.Module) -> str:
    return type(model).__name__
