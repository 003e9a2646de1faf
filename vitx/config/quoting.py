"""Overrides made ready for Hydra: paths arrive as typed.

Hydra reads a value by a grammar of its own, in which spaces, commas, `=`, brackets and quotes
mean something and letters beyond ASCII are refused. A path is none of its business.
"""

from __future__ import annotations

import re

from vitx.config.settings import settings
from vitx.config.words import Override, Words, elements, is_quoted

_LISTS = ("list of texts", "list of whole numbers")
_SWEEP = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\s*\(.*\)", re.DOTALL)


def hydra_arguments(verb: str, words: Words) -> list[str]:
    """Return the words as Hydra has to get them.

    Values of path settings are quoted, and further entries of a mapping (`model.args.depth=2`)
    are marked as such. `null` and what is quoted already stay as they are; in a sweep the commas
    outside quotes separate, and `choice(...)` and its like are left to Hydra. `${...}` is an
    interpolation in a path too.

    Args:
        verb: whose settings the overrides name.
        words: what was typed behind it.

    Returns:
        Overrides first, then flags: argparse does not take them mixed.
    """
    ready = [_ready(verb, word, multirun=words.multirun) for word in words.overrides]
    return ready + [part for flag in words.flags for part in flag if part is not None]


def quote(text: str, mark: str = "'") -> str:
    r"""Quote a text for Hydra's grammar, in which a backslash escapes only in front of a quote.

    Args:
        text: any text.
        mark: the quote, `'` or `"`.

    Returns:
        A value that Hydra reads as `text`.

    >>> print(quote("it's a\\b"))
    'it\'s a\b'
    """
    body = re.sub(rf"(\\*){mark}", lambda match: match[1] * 2 + "\\" + mark, text)
    trailing = len(body) - len(body.rstrip("\\"))
    return mark + body + "\\" * trailing + mark


def mapping_of(verb: str, key: str) -> str | None:
    """Return the mapping that a key is or lies in: `model.args` for `model.args.depth`."""
    for name, setting in settings(verb).items():
        if setting.kind == "mapping" and (key == name or key.startswith(f"{name}.")):
            return name
    return None


def _ready(verb: str, word: str, *, multirun: bool) -> str:
    override = Override.parse(word)
    if override is None or not override.value:
        return word
    setting = settings(verb).get(override.key)
    if setting is not None and setting.kind in _LISTS:
        value = _listed(override.value, multirun=multirun)
        return str(Override(override.sign, override.key, value))
    # Hydra adds to a mapping only when told to; here it is typed like any setting.
    mapping = mapping_of(verb, override.key)
    sign = "++" if mapping and not override.sign else override.sign
    named = settings(verb).get(mapping or override.key)
    if named is not None and named.path and override.key != mapping:
        value = _quoted_path(override.value, multirun=multirun)
        return str(Override(sign, override.key, value))
    return f"++{word}" if sign != override.sign else word


def _listed(value: str, *, multirun: bool) -> str:
    """Return a list where a single value was typed for one: `suite=real` is `suite=[real]`."""
    if value.startswith(("[", "$")) or value.lower() == "null" or _SWEEP.fullmatch(value):
        return value
    parts = elements(value) if multirun else [value]
    return ",".join(f"[{part}]" for part in parts)


def _quoted_path(value: str, *, multirun: bool) -> str:
    if multirun and _SWEEP.fullmatch(value):
        return value
    parts = elements(value) if multirun else [value]
    return ",".join(
        part if is_quoted(part) or part.lower() == "null" else quote(part) for part in parts
    )
