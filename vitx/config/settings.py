"""The catalogue: every setting and config group of a verb, with its effective default.

Read from the dataclasses of `vitx.config.schema` (their documentation strings through `ast`) and
from the flat YAML of `conf/`, with the standard library alone: help and completion wait for it.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from vitx.config import schema
from vitx.paths import conf_dir

_PAIR = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?:\s+(?P<value>\S.*))?")
_COMMENT = re.compile(r"(^|\s)#.*")
_CHOICE = re.compile(r"\s*-\s+(optional\s+)?(?P<group>\w+):\s*(?P<option>\S+)")
_SELF = re.compile(r"\s*-\s+_self_\s*")
_KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    list[float]: "list of numbers",
    list[int]: "list of whole numbers",
    list[str]: "list of texts",
}


@dataclass(frozen=True)
class Setting:
    """One setting, in the words of the command line."""

    name: str
    """Dotted name, such as `optimizer.lr`."""
    default: str
    """What a run has if nobody sets it; `???` where it has to be given."""
    kind: str
    """What a value is: text, whole number, ...; `choice` and `mapping` among them."""
    choices: tuple[str, ...]
    """The values there are, for a choice or a truth value; else empty."""
    nullable: bool
    """Whether null is a value."""
    path: bool
    """Whether the value is a path."""
    positional: str
    """Group whose options it takes as a word without `=`; empty where it takes none."""
    doc: str
    """Meaning and unit."""

    @property
    def repeated(self) -> bool:
        """Whether any number of words without `=` are its values."""
        return bool(self.positional) and self.kind == "list of texts"

    @property
    def section(self) -> str:
        """The part of the name before the last dot; empty at the top."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """A config group: a folder of options, one of which is chosen."""

    name: str
    options: tuple[str, ...]
    default: str | None
    """The option chosen if nobody chooses; None is none."""


def schema_of(verb: str) -> type:
    """Return the dataclass of a verb, `TrainConfig` for `train`."""
    found: type = getattr(schema, f"{verb.title()}Config")
    return found


@cache
def settings(verb: str) -> dict[str, Setting]:
    """Return every setting of a verb by its dotted name, in the order of the schema."""
    chosen = _defaults(verb)
    return {
        setting.name: setting
        for setting in _walk(schema_of(verb), prefix="", chosen=chosen, docs=_documentation())
    }


@cache
def sections(verb: str) -> dict[str, str]:
    """Return the documentation of every section of a verb by its dotted name."""
    return dict(_walk_sections(schema_of(verb), prefix="", docs=_documentation()))


def groups(verb: str, folders: Sequence[Path] = ()) -> dict[str, Group]:
    """Return the config groups of a verb by name.

    Args:
        verb: whose groups.
        folders: further folders with options, as given with `--config-dir`.
    """
    found = {}
    for entry in _choices(verb):
        name, option = entry["group"], entry["option"]
        found[name] = Group(
            name=name,
            options=options(name, folders),
            default=None if option == "null" else option,
        )
    return found


def options(group: str, folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return the options of a group, in `conf/` and in further folders, sorted."""
    places = [folder / group for folder in (conf_dir(), *folders)]
    return tuple(sorted({file.stem for place in places for file in place.glob("*.yaml")}))


def option_values(group: str, option: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """Return what an option sets, by dotted name of the setting; empty if it is not found."""
    for folder in (*folders, conf_dir()):
        file = folder / group / f"{option}.yaml"
        if file.is_file():
            values = read_flat(file)
            if "@package _global_" in file.read_text(encoding="utf-8"):
                return values
            return {f"{group}.{name}": value for name, value in values.items()}
    return {}


def read_flat(path: Path) -> dict[str, str]:
    """Return the `key: value` lines of a YAML file, nested ones under their dotted name.

    Lists in block form are passed over; a list or mapping in brackets stays the text it is.
    """
    values: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _PAIR.fullmatch(_COMMENT.sub("", line).rstrip())
        if match is None:
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        if match["value"]:
            name = ".".join([*(key for _, key in parents), match["key"]])
            values[name] = _unquote(match["value"])
        else:
            parents.append((indent, match["key"]))
    return values


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _choices(verb: str) -> list[re.Match[str]]:
    return [match for line in _primary(verb) if (match := _CHOICE.match(line))]


def _primary(verb: str) -> list[str]:
    """Return the lines of a verb's primary config; none where Hydra has no part in it."""
    file = conf_dir() / f"{verb}.yaml"
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _defaults(verb: str) -> dict[str, str]:
    """Return what `conf/` sets if nothing is typed; the later entry of the list wins."""
    file = conf_dir() / f"{verb}.yaml"
    values: dict[str, str] = {}
    for line in _primary(verb):
        if match := _CHOICE.match(line):
            values |= option_values(match["group"], match["option"])
        elif _SELF.fullmatch(line):
            values |= read_flat(file)
    return {name: value for name, value in values.items() if value != schema.MISSING}


@cache
def _documentation() -> dict[tuple[str, str], str]:
    """Return the string under each field of the schema, by (class, field)."""
    files = sorted(Path(schema.__file__).parent.glob("*.py"))
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    found = {}
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, after in zip(node.body, node.body[1:], strict=False):
            match statement, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(doc))),
                ):
                    found[node.name, name] = " ".join(doc.split())
    return found


def _walk(
    cls: type, *, prefix: str, chosen: dict[str, str], docs: dict[tuple[str, str], str]
) -> Iterator[Setting]:
    for item, inner, nullable in _typed_fields(cls):
        name = prefix + item.name
        if _is_section(inner):
            yield from _walk(inner, prefix=f"{name}.", chosen=chosen, docs=docs)
            continue
        is_choice = isinstance(inner, type) and issubclass(inner, Enum)
        choices = tuple(inner.__members__) if is_choice else ()
        mapping = "list of mappings" if typing.get_origin(inner) is list else "mapping"
        kind = "choice" if is_choice else _KINDS.get(inner, mapping)
        yield Setting(
            name=name,
            default=chosen.get(name, _render(_default(item))),
            kind=kind,
            choices=("true", "false") if inner is bool else choices,
            nullable=nullable,
            path=bool(item.metadata.get("path")),
            positional=item.metadata.get("positional", ""),
            doc=_doc_of(cls, item.name, docs),
        )


def _walk_sections(
    cls: type, *, prefix: str, docs: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str]]:
    for item, inner, _ in _typed_fields(cls):
        if _is_section(inner):
            name = prefix + item.name
            own = _doc_of(cls, item.name, docs)
            yield name, own or (inner.__doc__ or "").splitlines()[0]
            yield from _walk_sections(inner, prefix=f"{name}.", docs=docs)


def _doc_of(cls: type, name: str, docs: dict[tuple[str, str], str]) -> str:
    """Return the string under a field, where the class or one that it extends has it."""
    return next(
        (docs[base.__name__, name] for base in cls.__mro__ if (base.__name__, name) in docs), ""
    )


def _typed_fields(cls: type) -> Iterator[tuple[Field[object], typing.Any, bool]]:
    """Yield each field with its type, `| None` taken off, and whether it was there."""
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        hint = hints[item.name]
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        inner = next(part for part in parts if part is not types.NoneType)
        yield item, inner, types.NoneType in parts


def _is_section(hint: object) -> typing.TypeGuard[type]:
    return is_dataclass(hint)


def _default(item: Field[object]) -> object:
    return item.default if item.default_factory is NO_DEFAULT else item.default_factory()


def _render(value: object) -> str:
    """Return a default as it is typed on the command line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Enum():
            return value.name
        case float():
            return repr(float(f"{value:.6g}"))
        case list():
            return "[" + ", ".join(_render(item) for item in value) + "]"
    return str(value)
