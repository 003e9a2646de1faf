"""From a composed configuration to checked dataclasses, and from those to plain data and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from vitx.config.checks import problems_of
from vitx.config.plain_data import MOST_BYTES, dump_yaml, parse_yaml, to_plain
from vitx.config.schema import DistillConfig, TrainConfig
from vitx.errors import StorageError, UsageError

__all__ = [
    "differences",
    "dump_yaml",
    "from_plain",
    "load_run_config",
    "load_yaml",
    "resolve",
    "same_but_for_seed",
    "to_config",
    "to_plain",
]

Config = TypeVar("Config")


def resolve(composed: DictConfig, schema: type[Config]) -> Config:
    """Turn a composed configuration into its dataclass and check it.

    Args:
        composed: what Hydra composed, with or without its own `hydra` part.
        schema: the dataclass of the verb.

    Returns:
        The configuration.

    Raises:
        UsageError: values are out of range or don't go together; all problems at once.
    """
    config = to_config(composed, schema)
    if problems := problems_of(config):
        raise UsageError("; ".join(problems))
    return config


def to_config(composed: DictConfig, schema: type[Config]) -> Config:
    """Turn a composed configuration into its dataclass, not checked."""
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), own))
    assert isinstance(config, schema)  # noqa: S101 (the schema node makes it so)
    return config


def from_plain(plain: Any, schema: type[Config]) -> Config:
    """Return the configuration that `to_plain` was given; it is data, whatever it holds."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
    assert isinstance(config, schema)  # noqa: S101 (the schema node makes it so)
    return config


def run_config_from(plain: dict[str, Any]) -> TrainConfig:
    """Return what `to_plain` made of the configuration of a run, be it trained or distilled."""
    return from_plain(plain, DistillConfig if "teacher" in plain else TrainConfig)


def load_run_config(path: Path) -> TrainConfig:
    """Read the configuration of a run, be it trained or distilled.

    Args:
        path: its config.yaml.

    Returns:
        The configuration, a `DistillConfig` where the run has a teacher.

    Raises:
        StorageError: as of `load_yaml`, or what it holds can't be carried out.
    """
    try:
        # One that can't be read is explained by `load_yaml`.
        distilled = "\nteacher:" in _text_of(path)
    except (OSError, ValueError):
        distilled = False
    config = load_yaml(path, DistillConfig if distilled else TrainConfig)
    if problems := problems_of(config):
        raise StorageError(f"{path} is no config that vitx trains with: {'; '.join(problems)}")
    return config


def load_yaml(path: Path, schema: type[Config]) -> Config:
    """Read a configuration that a run wrote. It is data: nothing in it is looked up or executed.

    Args:
        path: the file.
        schema: the dataclass it was written from.

    Returns:
        The configuration.

    Raises:
        StorageError: the file is missing, damaged, too large, holds an interpolation, an alias or
            an unknown setting.
    """
    try:
        return from_plain(parse_yaml(_text_of(path)), schema)
    except Exception as error:  # a hostile file can raise nearly anything, at any depth
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise StorageError(f"{path} can't be read as the config of a run: {reason}") from error


def _text_of(path: Path) -> str:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes; a saved config has at most {MOST_BYTES:,}")
    return path.read_text(encoding="utf-8")


def differences(saved: TrainConfig, wanted: TrainConfig) -> list[str]:
    """Compare two configurations in all that may not change when a run is resumed.

    Returns:
        Lines such as `optimizer.lr: 0.001 in the run, 0.002 now`.
    """
    now = dict(_fixed_fields(wanted))
    return [
        f"{name}: {to_plain(value)} in the run, {to_plain(now[name])} now"
        for name, value in _fixed_fields(saved)
        if to_plain(value) != to_plain(now[name])
    ]


def same_but_for_seed(one: TrainConfig, other: TrainConfig) -> bool:
    """Say whether two runs differ in nothing but the seed and what may change on resuming."""
    first, second = (dict(_fixed_fields(config)) for config in (one, other))
    del first["seed"], second["seed"]
    return type(one) is type(other) and to_plain(first) == to_plain(second)


def _fixed_fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        if field.metadata.get("may_change"):
            continue
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fixed_fields(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
