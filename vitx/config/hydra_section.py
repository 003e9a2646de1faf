"""Hydra's own section of a configuration: what in it names code to run is refused.

Hydra makes an object of whatever class `hydra.callbacks`, `hydra.launcher` or `hydra.sweeper` name,
logs through whatever class `hydra.job_logging` names, and sets what `hydra.job.env_set` says. A
folder of configuration can say all of that; one from a stranger is to stay data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitx.errors import UsageError

_PLUGINS = "hydra_plugins"
_CLASSES: dict[str, tuple[str, ...]] = {
    "launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        f"{_PLUGINS}.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        f"{_PLUGINS}.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        f"{_PLUGINS}.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
    "sweeper": ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper",),
}
# What a launcher hands to a shell, and what every process of a job is started with.
_TYPED_ONLY = (
    "launcher.setup",
    "launcher.python",
    "launcher.srun_args",
    "launcher.additional_parameters",
    "job.env_set",
    "job.env_copy",
)
_HANDLERS = ("logging.StreamHandler", "logging.FileHandler")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def refuse_code(section: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Refuse what would run code that vitx does not need.

    Args:
        section: Hydra's section as plain data, interpolations as they are written.
        typed: the overrides of the command line. Its author is trusted, and may say what a shell
            runs before a job of a cluster.

    Raises:
        UsageError: it names a class, a command or a variable that it may not.
    """
    if section.get("callbacks"):
        raise UsageError("hydra.callbacks names code to run, which a configuration can't; drop it")
    for part, classes in _CLASSES.items():
        _refuse_class(part, section.get(part), classes)
    for name, value in section.items():
        if name not in _CLASSES:
            _refuse_targets(f"hydra.{name}", value)
    for name in ("job_logging", "hydra_logging"):
        _refuse_logging(f"hydra.{name}", section.get(name))
    said = [word.lstrip("+~").partition("=")[0] for word in typed]
    for name in _TYPED_ONLY:
        part, _, setting = name.partition(".")
        held = section.get(part)
        value = held.get(setting) if isinstance(held, Mapping) else held
        if (
            value
            and not any(_covers(word, f"hydra.{name}") for word in said)
            and not (name == "job.env_set" and _is_copied(section))
        ):
            raise UsageError(
                f"hydra.{name} is taken from the command line alone, not from a file; "
                f"type hydra.{name}=..."
            )


def refuse_typed_only(words: Sequence[str]) -> None:
    """Refuse words of a file that are taken from the command line alone, though once typed there.

    Raises:
        UsageError: there is such a word.
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        for name in _TYPED_ONLY:
            if _covers(key, f"hydra.{name}"):
                raise UsageError(
                    f"{key} is taken from the command line alone, not from a file; type it again"
                )


def _covers(word: str, name: str) -> bool:
    return word == name or word.startswith(f"{name}.") or name.startswith(f"{word}.")


def _is_copied(section: Mapping[str, Any]) -> bool:
    """Return whether all variables that are set were named as those to copy."""
    return set(section["job"]["env_set"]) <= set(section["job"].get("env_copy") or ())


def _refuse_class(part: str, held: Any, classes: Sequence[str]) -> None:
    if held is None:
        return
    named = held.get("_target_") if isinstance(held, Mapping) else held
    if named not in classes:
        raise UsageError(
            f"hydra.{part} names {named}, and vitx takes "
            f"{', '.join(each.rpartition('.')[2] for each in classes)}"
        )
    for name, value in held.items():
        _refuse_targets(f"hydra.{part}.{name}", value)


def _refuse_targets(name: str, value: Any) -> None:
    for key in _keys(value):
        if key == "_target_":
            raise UsageError(f"{name} names a class (_target_), which a configuration can't")


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _refuse_logging(name: str, value: Any, key: str = "") -> None:
    """Refuse a logging configuration that has more than the standard handlers of Hydra's own."""
    match value:
        case Mapping():
            if "()" in value:
                raise UsageError(f"{name} names code to run ('()'), which a configuration can't")
            for inner_key, inner in value.items():
                _refuse_logging(f"{name}.{inner_key}", inner, str(inner_key))
        case list():
            for inner in value:
                _refuse_logging(name, inner)
        case str() if key == "class" and value not in _HANDLERS:
            raise UsageError(f"{name} names {value}; vitx takes {' and '.join(_HANDLERS)}")
        case str() if key == "filename" and value != _LOG_FILE:
            raise UsageError(f"{name}={value}: vitx keeps the log of a run itself; leave it out")
        case str() if "://" in value and value not in _STREAMS:
            raise UsageError(f"{name}={value}: expected {' or '.join(_STREAMS)}")
        case str() if "${" in value and key != "filename":
            raise UsageError(f"{name}={value}: no interpolation is taken there")
