"""The words behind a verb, told apart: Hydra's flags, and overrides of the form `key=value`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitx.config.settings import groups, settings
from vitx.errors import UsageError, near_matches

CHECKED = ("train", "distill", "eval", "recipe", "import")
"""The verbs whose command lines `vitx check` takes."""

PLANNED = ("train", "distill")
"""The verbs whose command lines `vitx doctor` takes."""

_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
FLAGS_WITH_VALUE: dict[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": _INFO,
    "-i": _INFO,
    "--config-dir": (),
    "-cd": (),
    "--config-path": (),
    "-cp": (),
    "--config-name": (),
    "-cn": (),
}
"""Hydra's flags that take a value, with the values there are; empty is anything.

Left out are `--experimental-rerun`, which unpickles a file, `--package`, which moves the settings,
and `--shell-completion`, for which `vitx completion` stands.
"""
BARE_FLAGS = (
    "--help",
    "-h",
    "--hydra-help",
    "--resolve",
    "--run",
    "-r",
    "--multirun",
    "-m",
)
"""Hydra's other flags."""

_MODES = (
    ("--run", "-r"),
    ("--multirun", "-m"),
    ("--cfg", "-c"),
    ("--info", "-i"),
)
_OVERRIDE = re.compile(r"(?P<sign>~|\+{0,2})(?P<key>[^=]*)=(?P<value>.*)", re.DOTALL)
_QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_QUOTED_VALUE = re.compile(_QUOTED, re.DOTALL)
_ELEMENT = re.compile(rf"(?:{_QUOTED}|[^,])+", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """A word of the form `key=value`, `+key=value`, `++key=value`, `~key=value` or `~key`."""

    sign: str
    key: str
    value: str

    @classmethod
    def parse(cls, word: str) -> Override | None:
        """Return the override that a word is; None where it has no such form."""
        match = _OVERRIDE.fullmatch(word)
        if match is not None:
            return cls(match["sign"], match["key"], match["value"])
        return cls("~", word[1:], "") if word.startswith("~") else None

    def __str__(self) -> str:
        """Return the word again."""
        return f"{self.sign}{self.key}={self.value}"


@dataclass(frozen=True)
class Words:
    """What stands behind a verb."""

    overrides: tuple[str, ...]
    flags: tuple[tuple[str, str | None], ...]
    """Each flag with its value, if it takes one."""

    @property
    def multirun(self) -> bool:
        """Whether comma lists are swept over."""
        return self.has("--multirun", "-m") or "hydra.mode=MULTIRUN" in self.overrides

    @property
    def folders(self) -> list[Path]:
        """The folders of further groups and options."""
        return [
            Path(value) for flag, value in self.flags if flag in ("--config-dir", "-cd") and value
        ]

    @property
    def shows_only(self) -> bool:
        """Whether something is shown rather than run."""
        return self.has(*_MODES[2], *_MODES[3], "--help", "-h", "--hydra-help")

    def has(self, *names: str) -> bool:
        """Return whether one of these flags is given."""
        return any(flag in names for flag, _ in self.flags)

    def value_of(self, *names: str) -> str | None:
        """Return the value of the last of these flags; None without one."""
        return next((value for flag, value in reversed(self.flags) if flag in names), None)


def split(verb: str, args: Sequence[str]) -> Words:
    """Tell flags and overrides apart, in whatever order they come.

    Args:
        verb: whose settings the overrides name.
        args: the words behind the verb, as typed.

    Returns:
        The same words, sorted.

    Raises:
        UsageError: a flag does not exist, lacks its value, or clashes with another.
    """
    overrides: list[str] = []
    flags: list[tuple[str, str | None]] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        flag, equal, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif flag in FLAGS_WITH_VALUE:
            flags.append((flag, value if equal else _take_value(flag, rest)))
        elif word in BARE_FLAGS:
            flags.append((word, None))
        else:
            raise UsageError(_unknown_flag(verb, flag, value or "".join(rest[:1])))
    words = Words(tuple(overrides), tuple(flags))
    _refuse_clashes(words)
    return words


def elements(value: str) -> list[str]:
    """Return the parts between the commas outside quotes, blanks around them taken off.

    >>> elements("a, 'b,c'")
    ['a', "'b,c'"]
    """
    return [part.strip() for part in _ELEMENT.findall(value)]


def is_quoted(value: str) -> bool:
    """Return whether a value is one quoted string of Hydra's grammar."""
    return _QUOTED_VALUE.fullmatch(value) is not None


def _take_value(flag: str, rest: list[str]) -> str | None:
    choices = FLAGS_WITH_VALUE[flag]
    if rest and (rest[0] in choices if choices else not rest[0].startswith("-")):
        return rest.pop(0)
    if choices is _INFO:
        return None
    expected = "|".join(choices) or "a value"
    got = f", got '{rest[0]}'" if rest else ""
    raise UsageError(f"{flag}: expected {expected}{got}; type {flag} {(*choices, 'VALUE')[0]}")


def _unknown_flag(verb: str, flag: str, value: str) -> str:
    name = flag.lstrip("-").replace("-", "_")
    if name in settings(verb) or name in groups(verb):
        return f"{flag}: settings are typed without dashes: {name}={value or 'VALUE'}"
    hint = near_matches(flag, [*FLAGS_WITH_VALUE, *BARE_FLAGS])
    return f"{flag}: no such flag{hint or f'; vitx {verb} --help lists them'}"


def _refuse_clashes(words: Words) -> None:
    given = [names[0] for names in _MODES if words.has(*names)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} don't go together; keep one of them")
    if words.has("--resolve") and not words.has("--cfg", "-c"):
        raise UsageError("--resolve goes with --cfg; type --cfg job --resolve")
