"""What is secret in the environment, by its name, and texts without it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote

from vitx.escapes import visible

_WORDS = (
    "API_?KEYS?|ACCESS|KEYS?|TOKENS?|SECRETS?|PASS|PASSWORDS?|PASSWD|PASSPHRASE|"
    "CREDENTIALS?|AUTH|COOKIES?|DSN|PAT"
)
_SECRET_NAME = re.compile(
    rf"(.*_)?({_WORDS})(_.*)?|.+_PWD|.*(TOKEN|SECRET|PASSWORD|PASSWD|APIKEY)", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SHORTEST = 8  # a shorter value stands in too many texts that have nothing to do with it


def is_secret_name(name: str) -> bool:
    """Return whether an environment variable of this name holds a secret.

    >>> is_secret_name("HF_TOKEN"), is_secret_name("TOKENIZERS_PARALLELISM")
    (True, False)
    """
    return _SECRET_NAME.fullmatch(name) is not None


def has_login(text: str) -> bool:
    """Return whether a text holds an address with a user or a password before its host."""
    return _LOGIN.search(text) is not None


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets of an environment, longest first, with the names that they have there.

    Those are values of names that say so, and logins in addresses, such as that of a proxy. Paths
    and values of less than eight characters are none.
    """
    found: dict[str, str] = {}
    for name, value in environment.items():
        parts = [value] if is_secret_name(name) and not os.path.exists(value) else []
        for login in _LOGIN.findall(value):
            password = login.partition(":")[2]
            parts += [login, password, unquote(password)]
        found |= {part: name for part in parts if len(part) >= _SHORTEST}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def secret_in(text: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the environment's secret that a text holds; None where it holds none."""
    held = secrets_of(os.environ if environment is None else environment)
    return next((name for value, name in held.items() if value in text), None)


def shown(text: str) -> str:
    """Return lines as they may be printed or kept: without secrets, harmless to a terminal."""
    return visible(redacted(text))


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text with secrets of the environment named instead, and addresses without logins.

    >>> redacted("key 0123456789 for https://me:pass@host/x", {"API_KEY": "0123456789"})
    'key <API_KEY> for https://...@host/x'
    """
    for value, name in secrets_of(os.environ if environment is None else environment).items():
        text = text.replace(value, f"<{name}>")
    return _LOGIN.sub("...", text)
