"""A command line as the jobs it stands for, and everything that is wrong with its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vitx.config.hints import explain
from vitx.config.quoting import hydra_arguments
from vitx.config.resolve import to_config
from vitx.config.screening import missing_settings, screen
from vitx.config.settings import groups, schema_of
from vitx.config.store import compose
from vitx.config.words import Override, Words, split
from vitx.errors import UsageError

_WRONG = (UsageError, HydraException, OmegaConfBaseException, YAMLError)


@dataclass(frozen=True, kw_only=True)
class ComposedJob:
    """One job of a command line; `label` is what its sweep varies."""

    overrides: tuple[str, ...]
    label: str
    config: DictConfig


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What a command line comes to.

    Attributes:
        jobs: of the words that are sound.
        problems: what is wrong with the others.
        incomplete: sections that lack a setting which has to be given.
        multirun: whether it is a sweep.
    """

    jobs: list[ComposedJob]
    problems: list[str] = field(default_factory=list)
    incomplete: frozenset[str] = frozenset()
    multirun: bool = False


def read_command_line(verb: str, args: Sequence[str]) -> CommandLine:
    """Compose every job of a command line; words that are wrong are left out, and all told.

    Args:
        verb: such as `train`.
        args: the words behind it, as typed.

    Returns:
        The jobs and the problems.

    Raises:
        UsageError: a flag is wrong, or the words can't be told from each other.
    """
    words = split(verb, args)
    try:
        screen(verb, words)
        return CommandLine(jobs=list(_jobs(verb, words)), multirun=words.multirun)
    except _WRONG as error:
        problem = _told(error, verb, args)
    sound, problems = _sound(verb, words)
    rest = Words(tuple(sound), words.flags)
    lacking = dict(missing_settings(verb, rest))
    problems += lacking.values()
    try:
        jobs = list(_jobs(verb, _without_missing(verb, rest)))
    except _WRONG:  # each word is sound by itself, not together
        jobs = []
    return CommandLine(
        jobs=jobs,
        problems=problems or [problem],
        incomplete=frozenset(setting.partition(".")[0] for setting in lacking),
        multirun=words.multirun,
    )


def compose_words(verb: str, words: Words, overrides: Sequence[str]) -> DictConfig:
    """Compose overrides with the folders and the primary config that the flags name."""
    folder = words.value_of("--config-path", "-cp")
    folders = [f"file://{each.resolve()}" for each in words.folders]
    searched = [f"hydra.searchpath={folders}"] if folders else []
    return compose(
        words.value_of("--config-name", "-cn") or verb,
        [*overrides, *searched],
        config_dir=Path(folder) if folder else None,
    )


def varied_keys(words: Words) -> frozenset[str]:
    """Return the keys of the settings that a sweep varies; none outside one."""
    if not words.multirun:
        return frozenset()
    overrides = OverridesParser.create().parse_overrides(list(words.overrides))
    return frozenset(each.get_key_element() for each in overrides if each.is_sweep_override())


def label_of(overrides: Sequence[str], varied: frozenset[str]) -> str:
    """Return the overrides of a job that its sweep varies."""
    return " ".join(each for each in overrides if each.partition("=")[0] in varied)


def _jobs(verb: str, words: Words) -> Iterator[ComposedJob]:
    ready, varied = hydra_arguments(verb, words)[: len(words.overrides)], varied_keys(words)
    expanded = _expanded(ready) if words.multirun else [tuple(ready)]
    for overrides in expanded:
        config = compose_words(verb, words, overrides)
        to_config(config, schema_of(verb))
        yield ComposedJob(overrides=overrides, label=label_of(overrides, varied), config=config)


def _expanded(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the overrides of each job of a sweep, as Hydra's own sweeper runs them."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    batches = BasicSweeper.split_arguments(parsed, None)
    return [tuple(job) for batch in batches for job in batch]


def _sound(verb: str, words: Words) -> tuple[list[str], list[str]]:
    """Try each word beside those that were sound, groups first, since others lie in them.

    Returns:
        The sound words, in the order tried, and what is wrong with the rest.
    """
    known, sound, problems = groups(verb, words.folders), list[str](), list[str]()

    def is_no_group(word: str) -> bool:
        override = Override.parse(word)
        return override is None or override.key not in known

    for word in sorted(words.overrides, key=is_no_group):
        tried = Words((*sound, word), words.flags)
        try:
            screen(verb, tried, complete=False)
            for _ in _jobs(verb, _without_missing(verb, tried)):
                pass
        except _WRONG as error:
            problems.append(_told(error, verb, [word]))
        else:
            sound.append(word)
    return sound, problems


def _without_missing(verb: str, words: Words) -> Words:
    """Return the words with a stand-in for each setting that has to be given and isn't."""
    filled = (f"{setting}=NEEDED" for setting, _ in missing_settings(verb, words))
    return Words((*words.overrides, *filled), words.flags)


def _told(error: Exception, verb: str, args: Sequence[str]) -> str:
    return str(error) if isinstance(error, UsageError) else explain(error, verb, args)
