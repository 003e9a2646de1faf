"""From configuration to a timm model that fits the dataset's classes, channels and picture size."""

from __future__ import annotations

import difflib
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from vitx.config.schema import ModelConfig
from vitx.errors import UsageError, near_matches

_TRIED_SIZES = 12
_WEIGHTS = "weights come from model.weights"
_SHAPE = "the dataset decides it"
_DECIDED = {
    "pretrained": _WEIGHTS,
    "pretrained_cfg": _WEIGHTS,
    "pretrained_cfg_overlay": _WEIGHTS,
    "checkpoint_path": _WEIGHTS,
    "cache_dir": _WEIGHTS,
    "num_classes": _SHAPE,
    "in_chans": _SHAPE,
    "img_size": "set dataset.image_px",
    "patch_size": "set model.patch_px",
    "drop_path_rate": "set model.drop_path",
    "drop_rate": "set model.dropout",
    "embed_layer": "set model.variant",
    "class_token": "set model.variant.pool",
    "global_pool": "set model.variant.pool",
    "pos_embed": "set model.variant.pos_embed",
    "use_pos_embed": "set model.variant.pos_embed",
    "features_only": "a model has to classify",
    "out_indices": "a model has to classify",
    "scriptable": "vitx does not script models",
    "exportable": "vitx does not script models",
}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the dataset asks of a model."""

    num_classes: int
    channels: int
    image_px: int


def build_model(config: ModelConfig, fit: Fit) -> nn.Module:
    """Build a randomly initialised model for [B, channels, image_px, image_px] pictures.

    The caller sets the random state that initialisation draws from.

    Args:
        config: architecture and regularisation.
        fit: classes, channels and picture size.

    Returns:
        A model whose forward pass gives [B, num_classes] logits.

    Raises:
        UsageError: timm has no such model, it does not take an argument, or the size doesn't fit.
    """
    _make_models_known()
    if problem := _unknown_name(config.name):
        raise UsageError(problem)
    for name in config.args.keys() & _DECIDED.keys():
        raise UsageError(f"model.args.{name} is not for you to set; {_DECIDED[name]}")
    try:
        model = _create(config, fit)
        _check_patches(model, fit)
        _try_forward(model, fit)
    except (AssertionError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UsageError(_size_problem(config, fit, error)) from error
    except (TypeError, KeyError) as error:
        if "must derive from BaseException" in str(error):
            raise UsageError(_size_problem(config, fit, ValueError(_raised(error)))) from error
        raise UsageError(
            f"model.name={config.name} does not take one of model.args, model.patch_px, "
            f"model.drop_path: {error}"
        ) from error
    return model


def normalisation(
    config: ModelConfig, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel that the architecture was published with.

    Where it starts from a pretrained tag, those that the tag was trained with. Grey pictures take
    0.5 and 0.5.
    """
    _make_models_known()
    from timm.models import get_pretrained_cfg, is_model

    name = config.name
    if tag := tag_in(config.weights, name=name):
        name = f"{name}.{tag}"
    published = get_pretrained_cfg(name) if is_model(name) else None
    if channels != 3 or published is None:
        return (0.5,) * channels, (0.5,) * channels
    return tuple(published.mean), tuple(published.std)


def tags_of(name: str) -> list[str]:
    """Return the pretrained tags that timm has of an architecture."""
    _make_models_known()
    import timm

    return [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]


def tag_in(weights: str | None, *, name: str) -> str:
    """Return the tag of an architecture that weights name, as `TAG` or `NAME.TAG`; else nothing."""
    tag = (weights or "").removeprefix("timm/").removeprefix(f"{name}.")
    return tag if tag in tags_of(name) else ""


def tag_classes(weights: str, *, name: str) -> int | None:
    """Return the number of classes that a tag of an architecture is for; None where unknown."""
    from timm.models import get_pretrained_cfg

    tag = tag_in(weights, name=name)
    cfg = get_pretrained_cfg(f"{name}.{tag}") if tag else None
    return None if cfg is None else int(cfg.num_classes)


def patch_unit(model: nn.Module) -> int | None:
    """Return the pixels that a side must be a multiple of, where the model cuts patches."""
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "patch_size", None)
    if isinstance(size, (tuple, list)):
        size = size[0]
    cut = getattr(embed, "proj", None)
    if not isinstance(size, int) or (isinstance(cut, nn.Conv2d) and cut.kernel_size != cut.stride):
        return None  # nothing is cut, or the pieces overlap
    ratio = getattr(embed, "feat_ratio", None)
    if callable(ratio):  # behind a stem, which pads what does not fit
        return None if size == 1 else int(ratio())
    return size


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _make_models_known() -> None:
    """Have timm's registry hold our own architectures too."""
    # Importing a module of architectures registers them.
    from vitx.models.architectures import alternet, cifar_vit  # noqa: F401


def _create(config: ModelConfig, fit: Fit) -> nn.Module:
    """Build the architecture, varied if it is to be."""
    model = _create_varied(config, fit)
    if config.drop_path_rule is not None:
        from vitx.models.architectures.drop_path import spread

        spread(model, config.drop_path, config.drop_path_rule)
    return model


def _create_varied(config: ModelConfig, fit: Fit) -> nn.Module:
    from vitx.models.architectures import variants

    if not variants.changes(config.variant):
        return _create_published(config, fit, {})
    with torch.device("meta"):
        published = _create_published(config, fit, {})
    variants.refuse_unknown(published, config.variant)
    further = variants.vit_arguments(config.variant) if variants.is_vit(published) else {}
    model = _create_published(config, fit, further)
    variants.vary(model, config.variant)
    return model


def _create_published(config: ModelConfig, fit: Fit, further: dict[str, Any]) -> nn.Module:
    import timm

    arguments: dict[str, Any] = {**config.args, **further}
    if config.patch_px is not None:
        arguments["patch_size"] = config.patch_px
    published = timm.models.get_pretrained_cfg(config.name)
    if published is not None and published.fixed_input_size:
        arguments["img_size"] = fit.image_px
    make = partial(
        timm.create_model,
        config.name,
        num_classes=fit.num_classes,
        in_chans=fit.channels,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm names its own deprecated arguments
        model = _with_rates(make, {"drop_path_rate": config.drop_path, "drop_rate": config.dropout})
    assert isinstance(model, nn.Module)  # noqa: S101 (timm is untyped)
    return model


def _with_rates(make: Callable[..., Any], rates: dict[str, float]) -> Any:
    # Some models have rates above 0 unless they are told otherwise, and some know no rates.
    state = torch.get_rng_state()
    for _ in rates:
        try:
            return make(**rates)
        except TypeError as error:
            rates = {name: rate for name, rate in rates.items() if rate or name not in str(error)}
            torch.set_rng_state(state)  # initialisation may have begun
    return make(**rates)


def _check_patches(model: nn.Module, fit: Fit) -> None:
    # timm's ViT drops the pixels at the border that fill no patch, and says nothing.
    unit = patch_unit(model)
    if unit is not None and fit.image_px % unit:
        raise ValueError(f"{fit.image_px} is not a multiple of the patch, {unit}")


@torch.no_grad()
def _try_forward(model: nn.Module, fit: Fit) -> None:
    # A picture too small for a network shows only when one goes through it.
    device = next(model.parameters()).device
    training = model.training
    model.eval()(torch.zeros(1, fit.channels, fit.image_px, fit.image_px, device=device))
    model.train(training)


def _unknown_name(name: str) -> str:
    import timm

    stem, _, tag = name.partition(".")
    if timm.is_model(stem):
        if not tag:
            return ""
        return f"model.name={name}: a tag names weights; set model.name={stem} model.weights={tag}"
    close = difflib.get_close_matches(stem, timm.list_models(), n=3, cutoff=0.6)
    hint = near_matches(stem, close) or "; vitx models lists those with a short name"
    return f"model.name={name}: timm has no such model{hint}"


def _size_problem(config: ModelConfig, fit: Fit, error: Exception) -> str:
    reason = (str(error) or "timm refuses it").splitlines()[0]  # a bare assert says nothing
    sizes = _sizes_that_fit(config, fit)
    if not sizes:
        return f"model.name={config.name} can't be built as configured: {reason}"
    named = " or ".join(f"dataset.image_px={size}" for size in sizes)
    return (
        f"model.name={config.name} does not take pictures of {fit.image_px} px ({reason}); "
        f"set {named}"
    )


def _raised(error: Exception) -> str:
    """Return the reason in a `raise("reason")`, which is no exception: timm's XCiT has some."""
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return line.removeprefix("raise").strip("()'\" ") or "timm refuses it"


def _sizes_that_fit(config: ModelConfig, fit: Fit) -> list[int]:
    """Return the nearest working sizes below and above, found by building without memory."""
    unit = 32
    with torch.device("meta"):
        try:
            probe = _create(config, Fit(num_classes=1, channels=fit.channels, image_px=224))
            unit = patch_unit(probe) or unit
        except Exception:  # noqa: S110, BLE001 (only the hint is lost)
            pass
    below = range(fit.image_px // unit * unit, 0, -unit)
    above = range((fit.image_px // unit + 1) * unit, (fit.image_px // unit + 64) * unit, unit)
    nearest = (
        _first_that_fits(config, fit, list(sizes)[:_TRIED_SIZES]) for sizes in (below, above)
    )
    return [size for size in nearest if size is not None and size != fit.image_px]


def _first_that_fits(config: ModelConfig, fit: Fit, sizes: list[int]) -> int | None:
    for size in sizes:
        candidate = Fit(num_classes=1, channels=fit.channels, image_px=size)
        try:
            with torch.device("meta"):
                _try_forward(_create(config, candidate), candidate)
        except Exception:  # noqa: S112, BLE001 (whatever the reason, this size is no advice)
            continue
        return size
    return None
