"""`vitx compare`: are runs really different? From what they said of the same samples."""

from __future__ import annotations

from pathlib import Path

from vitx.commands.comparing import make_teams, pairs_of, read_entrants
from vitx.commands.comparison_data import as_data
from vitx.commands.comparison_lines import caption_of, lines_of, panels_of, title_of
from vitx.config.plain import read
from vitx.config.schema import CompareConfig
from vitx.errors import UsageError
from vitx.evaluate.comparison import compare
from vitx.files import storage_errors, writable_place, write_bytes, write_json
from vitx.redaction import shown
from vitx.report.forest import draw_forest
from vitx.runtime.seeds import derive

_ENDINGS = (".json", ".png")


def main(args: list[str]) -> int:
    """Carry out `vitx compare` with these arguments.

    Returns:
        0, whether a difference is shown or not.
    """
    config = read("compare", args, CompareConfig)
    table, picture = _files(config)
    entrants = read_entrants(config)
    teams = make_teams(entrants, grouped=config.groups)
    pairs = pairs_of(teams, config.baseline)
    label = entrants[0].stored.label
    units = [(first.unit, second.unit) for first, second in pairs]
    found = compare(units, label, level=config.level, seed=derive("compare", config.seed))
    print(shown("\n".join(lines_of(teams, found, level=config.level))))
    drawn = draw_forest(
        panels_of(found, config.level),
        title=title_of(teams),
        caption=caption_of(teams, found, config.level),
    )
    with storage_errors(table.parent):
        table.parent.mkdir(parents=True, exist_ok=True)
    write_json(table, as_data(teams, found, config))
    write_bytes(picture, drawn)
    print(shown(f"written to {table} and {picture.suffix}"))
    return 0


def _files(config: CompareConfig) -> tuple[Path, Path]:
    """Return where numbers and picture are written, if they can be.

    Raises:
        UsageError: a setting can't be carried out.
    """
    if not 0.5 <= config.level < 1:
        raise UsageError(f"level={config.level}: expected 0.5 or more and less than 1")
    stem = config.out
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    if not Path(stem).name or stem.endswith("/"):
        raise UsageError(f"out={config.out}: expected the name of files without their ending")
    table, picture = (Path(stem + ending) for ending in _ENDINGS)
    for file in (table, picture):
        if file.is_dir():
            raise UsageError(f"out={config.out}: {file} is a directory; choose another name")
    writable_place(table.parent)
    return table, picture
