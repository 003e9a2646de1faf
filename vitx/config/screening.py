"""Refuses overrides that Hydra would pass over in silence, or stumble over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vitx.config.hints import needed, unknown_option, unknown_setting
from vitx.config.quoting import mapping_of
from vitx.config.schema import MISSING
from vitx.config.settings import Group, groups, option_values, sections, settings
from vitx.config.words import Override, Words, elements
from vitx.errors import UsageError
from vitx.redaction import has_login, redacted, secret_in


def screen(verb: str, words: Words, *, complete: bool = True) -> None:
    """Refuse what Hydra would accept without an effect, or answer with a riddle.

    These are a setting added with `+` that nothing reads, a setting taken away, an unknown option
    of an optional group, and an option's `???`, which merging fills with the schema's default.
    A secret is refused in whatever word it stands, since Hydra writes them down in a sweep.

    Args:
        verb: whose settings the overrides name.
        words: what was typed behind it.
        complete: what has to be given has to be there.

    Raises:
        UsageError: one of these was typed.
    """
    for word in (*words.overrides, *(value for _, value in words.flags if value)):
        _refuse_secret(word)
    if _is_foreign(words):
        return
    known = groups(verb, words.folders)
    for word in words.overrides:
        override = Override.parse(word)
        if override is None or not override.key:
            raise UsageError(f"{word}: expected setting=value, such as {_example(verb, word)}")
        if override.key in known:
            _screen_option(verb, known[override.key], override, multirun=words.multirun)
        elif _is_absent(verb, override, known, words):
            group = override.key.partition(".")[0]
            raise UsageError(f"{word}: choose a {group} with it: {group}=OPTION {word}")
        elif override.sign == "~":
            _screen_removed(verb, override)
        elif override.sign:
            _screen_added(verb, override, words.folders)
    if complete and not words.shows_only:
        for _, line in missing_settings(verb, words):
            raise UsageError(line)


def missing_settings(verb: str, words: Words) -> Iterator[tuple[str, str]]:
    """Yield each setting whose `???` nobody fills, and the line that asks for it.

    Args:
        verb: whose settings the overrides name.
        words: what was typed behind it; each is an override.

    Yields:
        The dotted name of the setting, and what to type.
    """
    if _is_foreign(words):
        return
    known = groups(verb, words.folders)
    typed = [override for word in words.overrides if (override := Override.parse(word))]
    chosen = {group.name: [group.default] for group in known.values() if group.default}
    for override in typed:
        if override.key in known:
            chosen[override.key] = [*_chosen(override, multirun=words.multirun)]
    values = [
        (group, option, name, value)
        for group, names in chosen.items()
        for option in names
        for name, value in option_values(group, option, words.folders).items()
    ]
    given = {override.key for override in typed if override.value}
    given |= {name for _, _, name, value in values if value != MISSING}
    for group, option, name, value in values:
        if value == MISSING and not given & {name, name.rpartition(".")[0]} - set(known):
            yield name, f"{group}={option}: {needed(settings(verb)[name], option)}"


def _refuse_secret(word: str) -> None:
    key = word.partition("=")[0]
    if secret := secret_in(word):
        raise UsageError(
            f"{redacted(key)}: it holds the value of {secret}, which would be written down; leave "
            "it out: the client that needs it finds it in the environment"
        )
    if has_login(word):
        raise UsageError(
            f"{redacted(key)}: an address with a login in it would be written down; put the login "
            "where its client looks for it, such as ~/.netrc"
        )


def _is_foreign(words: Words) -> bool:
    """Return whether options can come from anywhere."""
    return words.has("--config-path", "-cp", "--config-name", "-cn") or any(
        "hydra.searchpath" in word for word in words.overrides
    )


def _example(verb: str, word: str) -> str:
    key = word.strip("=+")
    if key in groups(verb):
        return f"{key}={groups(verb)[key].options[0]}"
    return f"{key}=VALUE" if key in settings(verb) else "batch_size=64"


def _is_absent(verb: str, override: Override, known: dict[str, Group], words: Words) -> bool:
    """Return whether the setting lies in a section that is null until its group is chosen."""
    root, dot, _ = override.key.partition(".")
    if not dot or root not in known or known[root].default is not None:
        return False
    return root in sections(verb) and not any(w.startswith(f"{root}=") for w in words.overrides)


def _screen_option(verb: str, group: Group, override: Override, *, multirun: bool) -> None:
    if override.sign == "~":
        see = f"vitx {verb} --help {group.name}"
        raise UsageError(f"~{group.name}: a group is not removed; {see} lists its options")
    if override.value.startswith("{"):
        return  # a mapping is merged into the section
    if override.sign:
        raise UsageError(f"{override}: type {group.name}={override.value}, without {override.sign}")
    for option in _chosen(override, multirun=multirun):
        if option == "null" and group.default is None:
            raise UsageError(f"{override}: no {group.name} is chosen anyway; leave it out")
        if option not in group.options and not any(mark in option for mark in "($,"):
            raise UsageError(unknown_option(verb, group.name, option, group.options))


def _screen_removed(verb: str, override: Override) -> None:
    if override.key in settings(verb) or override.key in sections(verb):
        raise UsageError(
            f"~{override.key}: a setting always has a value; "
            f"vitx {verb} --help {override.key} shows its default"
        )


def _screen_added(verb: str, override: Override, folders: Sequence[Path]) -> None:
    key = override.key.partition("@")[0]
    known = key in settings(verb) or key in sections(verb) or mapping_of(verb, key)
    is_group = any((folder / key).is_dir() for folder in folders)
    if not (known or is_group or key.replace("/", ".").partition(".")[0] == "hydra"):
        raise UsageError(unknown_setting(verb, key))


def _chosen(override: Override, *, multirun: bool) -> list[str]:
    value = override.value
    if value.startswith("[") and value.endswith("]"):
        return elements(value[1:-1])
    return elements(value) if multirun and "(" not in value else [value]
