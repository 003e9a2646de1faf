"""Words of a verb that composes nothing: settings of its dataclass, without Hydra."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vitx.config.hints import EXPECTED, unknown_setting
from vitx.config.schema import MISSING
from vitx.config.settings import Setting, schema_of, settings
from vitx.errors import UsageError, near_matches

Config = TypeVar("Config")

_READ: dict[str, Callable[[str], Any]] = {
    "text": str,
    "whole number": int,
    "number": float,
    "true or false": {"true": True, "false": False}.__getitem__,
}


def read(verb: str, words: Sequence[str], schema: type[Config]) -> Config:
    """Read `setting=value` words, and words without `=` for the settings that take them.

    Args:
        verb: whose settings they are.
        words: as typed behind the verb.
        schema: the verb's dataclass.

    Returns:
        The configuration.

    Raises:
        UsageError: a setting does not exist, or a value is of another kind.
    """
    known, values = settings(verb), dict[str, Any]()
    free = [setting for setting in known.values() if setting.positional]
    for word in words:
        name, equal, text = word.partition("=")
        if name not in known and free and free[0].repeated and _is_path(word):
            equal = ""  # of its name: the runs of a sweep are called after their settings
        if word.startswith("-") and word != "-":
            raise UsageError(f"{word}: no such flag; vitx {verb} --help lists the settings")
        if equal and name not in known:
            raise UsageError(unknown_setting(verb, name))
        if not equal and not free:
            raise UsageError(f"{word}: one word too many; expected setting=value")
        setting = known[name] if equal else free[0] if free[0].repeated else free.pop(0)
        if setting.repeated:
            values.setdefault(setting.name, []).append(text if equal else word)
        else:
            values[setting.name] = _value(verb, setting, text if equal else word)
    for setting in known.values():
        if setting.default == MISSING and setting.name not in values:
            typed = setting.name.upper() if setting.positional else f"{setting.name}=VALUE"
            raise UsageError(f"{setting.name} is needed; type vitx {verb} {typed}")
    return schema(**values)


def _is_path(word: str) -> bool:
    return os.sep in word.partition("=")[0] or Path(word).exists()


def _value(verb: str, setting: Setting, text: str) -> Any:
    if text == "null" and setting.nullable:
        return None
    if setting.kind == "choice":
        if text not in setting.choices:
            hint = near_matches(text, setting.choices) or f"; {'|'.join(setting.choices)}"
            raise UsageError(f"{setting.name}={text}: no such choice{hint}")
        return _enum(verb, setting.name)[text]
    try:
        return _READ[setting.kind](text)
    except (ValueError, KeyError):
        expected = EXPECTED.get(setting.kind, setting.kind)
        raise UsageError(f"{setting.name}={text}: expected {expected}") from None


def _enum(verb: str, name: str) -> Any:
    hint = typing.get_type_hints(schema_of(verb))[name]
    parts = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return next(parts, hint)  # of `Head | None`, Head
