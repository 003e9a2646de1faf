"""A configuration as plain data, and the YAML that it is kept in."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

import yaml

MOST_BYTES = 1 << 20
"""Of a saved configuration; one of vitx has some thousands."""


def to_plain(config: Any) -> Any:
    """Return a configuration as plain data: dicts, lists, strings, numbers; enums by name."""
    if dataclasses.is_dataclass(config):
        return {
            field.name: to_plain(getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    if isinstance(config, Enum):
        return config.name
    if isinstance(config, dict):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def dump_yaml(config: Any) -> str:
    """Render a configuration as YAML."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text


def parse_yaml(text: str) -> Any:
    """Return what `dump_yaml` wrote, as plain data.

    Nothing in it names a class, and nothing stands for something else: nine lines of which each
    stands for ten of the one before would be merged into a thousand million.

    Raises:
        ValueError: it holds an alias or an interpolation.
        YAMLError: it is no YAML, or has tags that are not those of plain data.
    """
    if "${" in text:
        raise ValueError("it holds an interpolation ('${'); a saved config has none")
    return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a safe loader, with less)


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it holds an alias ('*'); a saved config has none")
        return super().compose_node(parent, index)
