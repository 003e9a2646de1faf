"""What went wrong while composing a configuration, in one line that says what to type.

Standard library only: Hydra's and OmegaConf's exceptions are told by their names and attributes,
so that whoever explains one need not have imported them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from vitx.config.quoting import quote
from vitx.config.settings import Setting, groups, sections, settings
from vitx.config.words import Override, elements
from vitx.errors import VitxError, near_matches

EXPECTED = {
    "text": "a text",
    "whole number": "a whole number",
    "number": "a number",
    "list of texts": 'a list of texts such as ["*.temperature"]',
    "list of numbers": "a list of numbers such as [0.5,1.0]",
    "mapping": "entries, typed as {name}.ENTRY=VALUE or '{name}={{ENTRY: VALUE}}'",
    "list of mappings": "a list of settings such as '{name}=[{{weights: runs/b}}]'",
}
"""What a value has to be, by the kind of its setting."""


def explain(error: Exception, verb: str, args: Sequence[str]) -> str:
    """Turn a failure of Hydra, OmegaConf or YAML into one line.

    Args:
        error: as raised while composing or reading the configuration.
        verb: whose configuration it is.
        args: the words behind the verb, as typed.

    Returns:
        What was expected, what was got, what to type; the first line of the error's own message
        where nothing better is known.
    """
    for cause in _innermost_first(error):
        if isinstance(cause, VitxError):  # of a resolver: it says what to type
            return str(cause)
        explainer = _EXPLAINERS.get(type(cause).__name__)
        line = explainer(cause, verb, args) if explainer else None
        if line is not None:
            return line
    return _first_line(error)


def unknown_setting(verb: str, name: str) -> str:
    """Say that a setting does not exist, and which was meant.

    Args:
        verb: whose settings there are.
        name: the dotted name that was typed.

    Returns:
        One line.
    """
    known = settings(verb)
    section, _, last = name.rpartition(".")
    same = [found for found in known if found.rpartition(".")[2] == last]
    siblings = {
        found.rpartition(".")[2]: found for found in known if known[found].section == section
    }
    if same:
        hint = "; did you mean " + " or ".join(f"'{found}'" for found in same[:4]) + "?"
    elif section in sections(verb) and (near := near_matches(last, siblings)):
        hint = re.sub(r"'(\w+)'", lambda match: f"'{siblings[match[1]]}'", near)
    else:
        hint = near_matches(name, [*known, *groups(verb), *sections(verb)])
    return f"{name}: no such setting{hint or f'; vitx {verb} --help all lists them'}"


def unknown_option(verb: str, group: str, option: str, known: Sequence[str]) -> str:
    """Say that a group has no such option, and which was meant.

    Args:
        verb: that has the group.
        group: name of the group.
        option: what was typed.
        known: the options there are.

    Returns:
        One line.
    """
    hint = near_matches(option.lower(), known) or ";"
    return f"no option '{option}' of {group}{hint} vitx {verb} --help {group} lists them"


def needed(setting: Setting, option: str = "") -> str:
    """Say that a setting has to be given, and what it means for the option that is chosen.

    Args:
        setting: the one without a value.
        option: chosen in its group; documentation may speak to it (`folder: the directory ...`).

    Returns:
        One line.
    """
    clauses = dict(part.split(": ", 1) for part in setting.doc.split("; ") if ": " in part)
    meaning = clauses.get(option, setting.doc).rstrip(".")
    value = "DIR" if setting.path else setting.name.rpartition(".")[2].upper()
    return f"{setting.name} is needed: {meaning}; type {setting.name}={value}"


def _grammar(error: BaseException, verb: str, args: Sequence[str]) -> str:
    word = str(getattr(error, "override", ""))
    override = Override.parse(word)
    if override is None or not override.key:
        return f"{word}: expected setting=value, such as batch_size=64"
    message = str(error).splitlines()
    if match := re.search(r"input '(.)", str(error)):
        sign = match[1]
    elif len(message) > 1 and message[1].strip() == "^":
        sign = message[0][message[1].index("^") :][:1]
    else:
        return f"{word}: {message[min(1, len(message) - 1)]}"
    shown = f"'{sign}'" if sign != "'" else f'"{sign}"'
    return f"{word}: {shown} can't stand there unquoted; type {_typed_quoted(override)}"


def _typed_quoted(override: Override) -> str:
    """Return the override with its value as a string, in the words of a shell."""
    value = override.value
    if value[:1] in ("'", '"'):
        value = value.strip(value[0])  # an opening quote that was never closed
    word = f"{override.sign}{override.key}={quote(value, chr(34))}"
    return f"'{word}'" if "'" not in word else shlex.quote(word)


def _composition(error: BaseException, verb: str, args: Sequence[str]) -> str | None:
    message = str(error)
    if match := re.match(r"Ambiguous value for argument '(.*?)'\n1\. ", message, re.DOTALL):
        return _ambiguous(match[1], verb)
    if match := re.match(r"Sweep parameters '(.*)' requires --multirun", message, re.DOTALL):
        return f"{match[1]}: a sweep needs -m; type vitx {verb} -m {match[1]}"
    if match := re.match(r"Could not override '([^']*)'", message):
        shown = "--cfg hydra" if match[1].startswith("hydra") else "--help all"
        return f"{match[1]}: no such setting; vitx {verb} {shown} lists them"
    if match := re.match(r"Multiple values for (\S+)\. ", message):
        return f"{match[1]}: chosen twice; choose it once, as {match[1]}=OPTION without +"
    if match := re.match(r"Additional config directory '(.*)' not found", message):
        return f"--config-dir: no such directory: {match[1]}"
    return None


def _ambiguous(word: str, verb: str) -> str:
    override = Override.parse(word)
    if override is None:
        return f"{word}: a sweep needs -m"
    setting = settings(verb).get(override.key)
    listed = " and ".join(elements(override.value))
    line = f"{word}: one run takes one value; add -m to run {listed} one after the other"
    if setting is not None and setting.kind == "list of numbers":
        return f"{line}, or type {override.key}=[{override.value}]"
    if setting is not None and setting.kind == "text":
        return f"{line}, or type {_typed_quoted(override)}"
    return line


def _missing_option(error: BaseException, verb: str, args: Sequence[str]) -> str | None:
    missing, options = getattr(error, "missing_cfg_file", None), getattr(error, "options", None)
    if missing and options:
        group, _, option = str(missing).rpartition("/")
        known = [str(name) for name in options]
        if group in groups(verb):
            return unknown_option(verb, group, option, known)
        return f"no option '{option}' of {group}; there are {', '.join(known)}"
    if match := re.search(r"Check that the config directory '(.*)' exists", str(error)):
        return f"--config-path: no such directory: {match[1]}"
    if missing and "primary config" in str(error):
        return f"--config-name {missing}: no such configuration in the folders searched"
    return None


def _unknown_key(error: BaseException, verb: str, args: Sequence[str]) -> str | None:
    name = str(getattr(error, "full_key", "") or "")
    if not name or name in settings(verb):
        return None
    return None if name.startswith("hydra") else unknown_setting(verb, name)


def _wrong_value(error: BaseException, verb: str, args: Sequence[str]) -> str | None:
    name = re.sub(r"\[\d+\]$", "", str(getattr(error, "full_key", "") or ""))
    typed = [word.lstrip("+") for word in args if word.lstrip("+").startswith(f"{name}=")]
    word = typed[-1] if typed else f"{name}={getattr(error, 'value', '')}"
    if name in sections(verb):
        inside = [found for found in settings(verb) if found.rpartition(".")[0] == name]
        return f"{word}: {name} is a section; set {', '.join(inside[:3])}, ..."
    if name not in settings(verb):
        return None
    return f"{word}: expected {_expected(settings(verb)[name])}"


def _expected(setting: Setting) -> str:
    if setting.choices:
        line = "one of " + ", ".join(setting.choices)
    else:
        line = EXPECTED[setting.kind].format(name=setting.name)
    return line + (" or null" if setting.nullable else "")


def _missing_value(error: BaseException, verb: str, args: Sequence[str]) -> str | None:
    name = str(getattr(error, "full_key", "") or "")
    return needed(settings(verb)[name]) if name in settings(verb) else None


def _interpolation(error: BaseException, verb: str, args: Sequence[str]) -> str:
    name = getattr(error, "full_key", "")
    return f"{name}: {_first_line(error)}; " + "${...} stands for another setting"


def _yaml(error: BaseException, verb: str, args: Sequence[str]) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return _first_line(error)
    return f"{mark.name}, line {mark.line + 1}: {problem}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _innermost_first(error: BaseException) -> list[BaseException]:
    # Hydra names a cause on the command line, but raises anew without one for a file.
    chain = [error]
    while (cause := _cause(chain[-1])) is not None:
        chain.append(cause)
    return chain[::-1]


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


_EXPLAINERS: dict[str, Callable[[BaseException, str, Sequence[str]], str | None]] = {
    "OverrideParseException": _grammar,
    "ConfigCompositionException": _composition,
    "SearchPathException": _composition,
    "MissingConfigException": _missing_option,
    "ConfigKeyError": _unknown_key,
    "ConfigAttributeError": _unknown_key,
    "ValidationError": _wrong_value,
    "UnsupportedValueType": _wrong_value,
    "MissingMandatoryValue": _missing_value,
    "InterpolationKeyError": _interpolation,
    "InterpolationResolutionError": _interpolation,
    "UnsupportedInterpolationType": _interpolation,
    "ScannerError": _yaml,
    "ParserError": _yaml,
    "ComposerError": _yaml,
    "ConstructorError": _yaml,
}
