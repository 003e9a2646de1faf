"""Texts of a configuration that must not be written down, or that no system takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vitx.config.plain_data import to_plain
from vitx.redaction import has_login, secret_in


def problems_in_texts(config: Any) -> Iterator[str]:
    """Yield what is wrong with the texts of a configuration, one sentence each.

    A configuration is written to the run directory and shown by W&B, so no secret may be in it.
    """
    for name, text in _texts(to_plain(config)):
        if "\0" in text:
            yield f"{name}: a text can't hold a NUL character"
        elif secret := secret_in(text):
            yield (
                f"{name} holds the value of {secret}, which would be written down; leave it out: "
                "the client that needs it finds it in the environment"
            )
        elif has_login(text):
            yield (
                f"{name} holds an address with a login in it, which would be written down; "
                "put the login where its client looks for it, such as ~/.netrc"
            )


def _texts(plain: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(plain, str):
        yield name, plain
    elif isinstance(plain, dict):
        for key, value in plain.items():
            yield f"{name} (a key)" if name else "a key", key
            yield from _texts(value, f"{name}.{key}" if name else key)
    elif isinstance(plain, list):
        for value in plain:
            yield from _texts(value, name)
