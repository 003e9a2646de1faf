"""The manual page of a verb, `vitx <verb> --help`: written by the schema and `conf/`, not here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitx.config.schema import MISSING
from vitx.config.settings import Setting, groups, schema_of, sections, settings
from vitx.errors import UsageError, VitxError, near_matches

WIDTH = 100
COMMON: dict[str, tuple[str, ...]] = {
    "train": (
        "epochs",
        "batch_size",
        "optimizer.lr",
        "precision",
        "seed",
        "dataset.path",
        "dataset.image_px",
        "model.drop_path",
        "ema.decay",
        "run_dir",
    ),
    "distill": (
        "teacher.weights",
        "teacher.epochs",
        "distillation.weight",
        "distillation.temperature",
        "epochs",
        "batch_size",
        "optimizer.lr",
        "precision",
        "seed",
        "dataset.path",
        "run_dir",
    ),
    "eval": ("run", "checkpoint", "weights", "suite", "dataset.path", "batch_size", "device"),
}
"""The settings that people change most, by verb; a verb without them composes nothing."""

_CHECK = (
    "`vitx check`: everything but carrying out a command line, in seconds; nothing is written.",
    "",
    "usage: vitx check [train|distill] [group=option ...] [setting=value ...] [flags]",
    "       vitx check eval run=RUN [setting=value ...]",
    "       vitx check recipe run NAME [scale=smoke] [setting=value ...]",
    "       vitx check import FILE [setting=value ...]",
    "",
    "The words are those of the verb; with -m every job of the sweep is checked. Run directory,",
    "data, weights and a sample of the pictures are read, the model is built, and trained and",
    "evaluated for a few steps; memory, hours and disk of the whole are estimated from them. What",
    "would be refused is listed, all of it, and the exit code is that of the first.",
)
_DOCTOR = (
    "`vitx doctor`: what is wrong with this environment, and what mends it; nothing is written.",
    "",
    "usage: vitx doctor [train|distill] [group=option ...] [setting=value ...]",
    "",
    "The words are those of the run that is planned; without any the default one is. Looked at are",
    "versions and whether libraries can be imported, GPUs, cores and memory, shared memory, open",
    "files and processes, disks, the dataset, logins (found or not, never what they are) and the",
    "clock. A problem ends the planned run or spoils it, and gives the exit code: the one that",
    "training would end with, where this is known, else 2. A warning doesn't change the exit code.",
)

_FLAGS = (
    ("--help all", "every setting; --help optimizer for one section, --help seed for one setting"),
    ("--cfg job", "print the configuration that would be used, and stop"),
    ("-m", "run once for each value of every comma list: vitx {verb} -m {sweep}"),
    ("--config-dir DIR", "take groups and options from DIR too: DIR/model/mine.yaml is model=mine"),
    ("--hydra-help", "the flags of Hydra, which composes the configuration"),
)
_LOOKING = {"check": _CHECK, "doctor": _DOCTOR}  # verbs without settings of their own
_SWEEPS = {"train": "seed=0,1,2", "distill": "distillation=hard,soft", "eval": "weights=model,ema"}


def page(verb: str, topic: str | None = None, *, folders: Sequence[Path] = ()) -> str:
    """Render the manual page of a verb.

    Args:
        verb: such as `train`.
        topic: `all`, a section or a setting, to see those settings only; None is the overview.
        folders: further folders with options, as given with `--config-dir`.

    Returns:
        Text of at most `WIDTH` columns, ending in a newline.

    Raises:
        UsageError: no section or setting has the name `topic`.
    """
    if verb in _LOOKING:
        parts = list(_LOOKING[verb])
    elif topic is None:
        parts = _overview(verb, folders)
    elif topic == "all":
        parts = _everything(verb)
    elif (parts := _part(verb, topic, folders)) == []:
        known = [*settings(verb), *sections(verb), *groups(verb)]
        hint = near_matches(topic, known) or "; --help all lists them"
        raise UsageError(f"--help {topic}: no such setting or section{hint}")
    return "\n".join(parts) + "\n"


def _overview(verb: str, folders: Sequence[Path]) -> list[str]:
    title = _wrap((schema_of(verb).__doc__ or "").splitlines()[0].replace("`", ""))
    known = settings(verb)
    if verb not in COMMON:
        free = "".join(
            f"[{each.name}{' ...' if each.repeated else ''}] "
            for each in known.values()
            if each.positional
        )
        return [
            *title,
            "",
            f"usage: vitx {verb} {free}[setting=value ...]",
            "",
            *_entries(known.values()),
        ]
    return [
        *title,
        "",
        f"usage: vitx {verb} [group=option ...] [setting=value ...] [flags]",
        "",
        "groups: choose an option with group=option; * is chosen if you don't",
        *_group_lines(verb, folders),
        "",
        "settings that people change most, with their defaults",
        *_entries(known[name] for name in COMMON[verb]),
        "",
        "flags",
        *_flag_lines(verb),
        "",
        'completion: eval "$(vitx completion bash)", or zsh',
        "",
        "exit codes",
        *_exit_lines(),
    ]


def _everything(verb: str) -> list[str]:
    known, lines = settings(verb).values(), []
    for section in ("", *sections(verb)):
        own = [setting for setting in known if setting.section == section]
        title = f"{section}: {sections(verb)[section]}" if section else f"vitx {verb}"
        lines += [*_wrap(title), *_entries(own), ""]
    return lines[:-1]


def _part(verb: str, topic: str, folders: Sequence[Path]) -> list[str]:
    below = f"{topic}."
    lines = _wrap(f"{topic}: {sections(verb)[topic]}") if topic in sections(verb) else []
    lines += _group_lines(verb, folders, only=topic)
    return lines + _entries(
        setting
        for name, setting in settings(verb).items()
        if name == topic or name.startswith(below)
    )


def _group_lines(verb: str, folders: Sequence[Path], only: str | None = None) -> list[str]:
    lines = []
    for name, group in groups(verb, folders).items():
        if only is not None and name != only:
            continue
        marked = [f"{option}*" if option == group.default else option for option in group.options]
        lines += _hang(f"  {name:<13} ", " ".join(marked))
    return lines


def _flag_lines(verb: str) -> list[str]:
    lines = []
    for flag, meaning in _FLAGS:
        text = meaning.format(verb=verb, sweep=_SWEEPS[verb])
        lines += _hang(f"  {flag:<17} ", text)
    return lines


def _exit_lines() -> list[str]:
    known = {0: "Done.", 1: "A bug in vitx: the traceback is shown."}
    known |= {error.exit_code: (error.__doc__ or "") for error in VitxError.__subclasses__()}
    return [f"  {code:>3}  {known[code]}" for code in sorted(known)]


def _entries(rows: Iterable[Setting]) -> list[str]:
    """Return settings as they are typed, with their values beside and their meaning below."""
    lines = []
    for row in rows:
        typed = f"{row.name}={'' if row.default == MISSING else row.default}"
        lines.append(f"  {typed:<37} {_values(row)}")
        lines += _hang("      ", row.doc)
    return lines


def _values(setting: Setting) -> str:
    if setting.repeated:
        return f"paths, typed without {setting.name}="
    kind = "|".join(setting.choices) or ("path" if setting.path else setting.kind)
    kind += " or null" if setting.nullable else ""
    return f"{kind}, has to be given" if setting.default == MISSING else kind


def _hang(label: str, text: str) -> list[str]:
    """Return `text` wrapped to the right of `label`, whose own words are never wrapped."""
    wrapped = textwrap.wrap(text, WIDTH - len(label), break_on_hyphens=False) or [""]
    indent = " " * len(label)
    return [(label + wrapped[0]).rstrip(), *(indent + line for line in wrapped[1:])]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
