"""`vitx sweep`: where the jobs of a sweep stand, and running those that are not finished."""

from __future__ import annotations

import importlib
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitx.commands.columns import aligned
from vitx.config.plain import read
from vitx.config.schema import SweepAction, SweepConfig
from vitx.errors import UsageError
from vitx.escapes import visible_line
from vitx.paths import sweeps_dir
from vitx.redaction import redacted, shown
from vitx.runtime.launch import standing
from vitx.sweeps.ledger import FILE, Ledger, State, Sweep
from vitx.sweeps.standing import Standing, look


def main(args: list[str]) -> int:
    """Carry out `vitx sweep` with these arguments.

    Returns:
        0.

    Raises:
        SweepError: some jobs of a sweep that went on failed.
        UsageError: there is no such sweep, or it can't go on from here.
    """
    config, more = read_words(args)
    ledger = find_sweep(config.sweep)
    if config.action is SweepAction.resume:
        return _resume(ledger, more, failed=config.failed)
    sweep, standings = ledger.read(), look(ledger)
    print(shown("\n".join(_table(ledger, sweep, standings))))
    return 0


def read_words(args: Sequence[str]) -> tuple[SweepConfig, list[str]]:
    """Return what was asked for, and the words that are for Hydra, such as for its launcher."""
    more = [word for word in args if _is_for_hydra(word)]
    config = read("sweep", [word for word in args if word not in more], SweepConfig)
    if more and config.action is not SweepAction.resume:
        raise UsageError(f"{more[0]}: only vitx sweep resume takes it")
    return config, more


def find_sweep(path: str | None) -> Ledger:
    """Return the ledger of the sweep at a path, or of the newest one.

    Raises:
        UsageError: there is none.
    """
    if path is not None:
        folder = Path(path)
        # Its name is told to others.
        ledger = Ledger(folder if folder.name not in ("", "..") else folder.resolve())
        if not ledger.exists():
            inside = f"; it is a job of {folder.parent}" if (folder.parent / FILE).exists() else ""
            raise UsageError(f"sweep={path}: no sweep there (no {FILE}){inside}")
        return ledger
    found = [Ledger(file.parent) for file in sweeps_dir().glob(f"*/{FILE}")]
    if not found:
        raise UsageError(f"no sweep in {sweeps_dir()}; begin one, or name its directory")
    return max(found, key=lambda ledger: (ledger.read().started, ledger.folder))


def _resume(ledger: Ledger, more: Sequence[str], *, failed: bool) -> int:
    """Go on with a sweep, as the command that began it would.

    What a folder of configuration may not say, a ledger may not either: it may be somebody else's.

    Returns:
        0.

    Raises:
        SweepError: some jobs failed.
        UsageError: its words can't be carried out, or not here.
    """
    # These import Hydra.
    from vitx.commands.sweep_plan import Again
    from vitx.config.hydra_section import refuse_typed_only
    from vitx.config.quoting import quote
    from vitx.config.screening import screen
    from vitx.config.words import split

    _refuse_several_ranks()
    sweep = ledger.read()
    _refuse_other_folder(ledger, sweep)
    refuse_typed_only(sweep.argv)
    _refuse_hydra(ledger, sweep)
    args = [*sweep.argv, *more, f"hydra.sweep.dir={quote(str(ledger.folder))}"]
    words = split(sweep.verb, args)
    if not words.multirun or words.shows_only:
        raise UsageError(f"{ledger.file}: its words are not those of a sweep")
    screen(sweep.verb, words)
    verb = importlib.import_module(f"vitx.commands.{sweep.verb}")
    return int(verb.main(args, again=Again(ledger=ledger, failed=failed)))


def _refuse_several_ranks() -> None:
    """Refuse to go on with a sweep in processes that torchrun started.

    Raises:
        UsageError: there are several.
    """
    if standing() is not None:
        raise UsageError(
            "a sweep goes on in one process, not in several of torchrun's; its jobs have "
            "runtime.devices"
        )


def _refuse_other_folder(ledger: Ledger, sweep: Sweep) -> None:
    """Refuse to read relative paths as others than they were.

    To go there would be no help: where Python is started, what lies there can be imported, and a
    ledger is not to choose that.

    Raises:
        UsageError: it was begun in another directory, which is still there.
    """
    there = Path(sweep.typed_in)
    if there.is_dir() and not there.samefile(Path.cwd()):
        go = f"cd {shlex.quote(str(there))} && vitx sweep resume"
        raise UsageError(
            f"the sweep was begun in {there}, which relative paths in it mean; type {go} "
            f"{shlex.quote(os.path.abspath(ledger.folder))}"
        )


def _refuse_hydra(ledger: Ledger, sweep: Sweep) -> None:
    """Refuse jobs that set something of Hydra: no sweep comes to such ones.

    Raises:
        UsageError: one does.
    """
    for job in sweep.jobs:
        for word in filter(_is_for_hydra, job.overrides):
            raise UsageError(f"{ledger.file}: job {job.number} can't set {word.partition('=')[0]}")


def _is_for_hydra(word: str) -> bool:
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


def _table(ledger: Ledger, sweep: Sweep, standings: Sequence[Standing]) -> Iterator[str]:
    yield f"{ledger.folder}: vitx {sweep.verb} {visible_line(shlex.join(sweep.argv))}"
    rows = [("job", "state", "code", "top-1", "step", "settings"), *map(_row, standings)]
    yield from aligned(rows, numbers={0, 2, 3, 4})
    for each in standings:
        if each.state == State.failed.name:
            yield f"job {each.job.number} failed: {each.job.error}"
    counted = Counter(each.state for each in standings)
    yield ", ".join(f"{number} {state}" for state, number in counted.items())
    if not ledger.is_held() and any(each.is_due(failed=False) for each in standings):
        yield f"vitx sweep resume {shlex.quote(str(ledger.folder))}"


def _row(each: Standing) -> tuple[str, ...]:
    steps = "-" if each.step is None else str(each.step)
    if each.step is not None and each.total_steps is not None:
        steps += f" of {each.total_steps}"
    return (
        str(each.job.number),
        each.state,
        "-" if each.code is None else str(each.code),
        "-" if each.top1 is None else f"{each.top1:.2f} %",
        steps,
        visible_line(redacted(each.job.label)),
    )
