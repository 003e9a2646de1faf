"""What a comparison came to, as lines of the terminal and as what is drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vitx.commands.columns import aligned
from vitx.commands.comparing import Entrant, Team
from vitx.commands.comparison_notes import notes_of
from vitx.escapes import visible_line
from vitx.evaluate.comparison import ClassDifference, Comparison, mean_loss
from vitx.evaluate.over_seeds import SeedMean, over_seeds
from vitx.evaluate.paired import Disagreement, Estimate, proportion
from vitx.evaluate.stored import Stored
from vitx.report.forest import Bar, Panel

_MOST_CLASSES = 5  # each way, of a comparison
_MOST_SPLIT = 3  # comparisons whose classes are shown


def lines_of(teams: Sequence[Team], found: Sequence[Comparison], *, level: float) -> Iterator[str]:
    """Yield the tables: runs, groups, differences, verdicts, classes, and what they mean."""
    stored = teams[0].entrants[0].stored
    yield f"{len(stored)} pictures of {stored.suite!r}, the same for all"
    yield ""
    yield from _runs(teams, level)
    if any(len(team.entrants) > 1 for team in teams):
        yield ""
        yield from _groups(teams)
    yield ""
    yield from _differences(found, level)
    yield ""
    yield from (verdict(each, level) for each in found)
    for each in found[:_MOST_SPLIT]:
        yield from _classes(each, stored, level)
    if len(found) > _MOST_SPLIT:
        yield from ("", "classes: in the JSON, for so many differences")
    yield ""
    yield from notes_of(teams, found, level)
    if any(each.disagreement is not None for each in found):
        yield "disagree: pictures predicted differently; right there: the share X and Y have right."


def verdict(found: Comparison, level: float) -> str:
    """Say in words what a comparison shows of accuracy."""
    size, ends = abs(found.top1.value), ""
    if found.shown(level):
        better, worse = (found.b, found.a) if found.top1.value > 0 else (found.a, found.b)
        if (low := found.top1.low) is not None and (high := found.top1.high) is not None:
            low, high = (low, high) if found.top1.value > 0 else (-high, -low)
            ends = f" ({low:.2f} to {high:.2f})"
        return f"{better} is better than {worse} by {size:.2f} points{ends}"
    return (
        f"no difference between {found.a} and {found.b} shown: {_signed(found.top1, 2)} points, "
        f"p {_p(found.p_corrected)}"
    )


def top1_of(entrant: Entrant, level: float) -> Estimate:
    """Return the accuracy of a run in percent, with its Wilson interval."""
    correct = entrant.stored.correct
    found = proportion(int(correct.sum()), len(correct), level=level)
    assert found is not None  # noqa: S101 (a result has a row)
    return found


def group_means(team: Team) -> tuple[SeedMean, SeedMean | None]:
    """Return the accuracy in percent and the loss in nats of a group, over its seeds."""
    unit = team.unit
    top1 = over_seeds(100 * unit.correct.mean(axis=0))
    return top1, None if unit.loss is None else over_seeds(unit.loss.mean(axis=0))


def title_of(teams: Sequence[Team]) -> str:
    """Return the title of the picture."""
    stored = teams[0].entrants[0].stored
    return f"Differences X - Y on {stored.suite} (N = {len(stored):,} pictures)"


def caption_of(teams: Sequence[Team], found: Sequence[Comparison], level: float) -> str:
    """Return what is drawn, of how many, and what the intervals cover, in one text."""
    marks = "Points are the differences, bars their intervals. Filled: shown"
    if any(each.loss is not None for each in found):
        marks += ", of the loss where the interval leaves 0 out"
    return " ".join([*notes_of(teams, found, level), f"{marks}."])


def panels_of(found: Sequence[Comparison], level: float) -> list[Panel]:
    """Return what is drawn: accuracy, and the loss where all have one."""
    panels = [
        Panel(
            axis="top-1 in percentage points; right of 0 X is better",
            digits=2,
            bars=[_bar(each, each.top1, shown=each.shown(level)) for each in found],
        )
    ]
    losses = [each.loss for each in found if each.loss is not None]
    if len(losses) == len(found):
        bars = [
            _bar(each, loss, shown=_excludes_zero(loss))
            for each, loss in zip(found, losses, strict=True)
        ]
        panels.append(Panel(axis="loss in nats; left of 0 X is better", digits=4, bars=bars))
    return panels


def _runs(teams: Sequence[Team], level: float) -> Iterator[str]:
    rows = [("run", "seed", "step", "weights", f"top-1 ({100 * level:g} % interval)", "loss")]
    for team in teams:
        for each in team.entrants:
            numbers, loss = each.stored.numbers, mean_loss(each.stored.loss)
            rows.append(
                (
                    each.name,
                    str(each.seed),
                    visible_line(str(numbers.get("step", "-"))),
                    visible_line(str(numbers.get("weights", "-"))),
                    _percent(top1_of(each, level)),
                    "-" if loss is None else f"{loss:.4f}",
                )
            )
    yield from _filled(rows, left={0, 3})


def _groups(teams: Sequence[Team]) -> Iterator[str]:
    rows = [("group", "seeds", "top-1, mean +- standard error", "loss")]
    for team in teams:
        if len(team.entrants) > 1:
            top1, loss = group_means(team)
            seeds = ", ".join(str(each.seed) for each in team.entrants)
            rows.append((team.name, seeds, f"{_plus_minus(top1, 2)} %", _plus_minus(loss, 4)))
    yield from _filled(rows, left={0, 1})


def _differences(found: Sequence[Comparison], level: float) -> Iterator[str]:
    share = f"{100 * level:g} %"
    rows = [
        (
            "difference",
            f"top-1, points ({share})",
            f"loss, nats ({share})",
            "p",
            "corrected",
            "disagree",
            "right there",
        )
    ]
    for each in found:
        apart = each.disagreement
        rows.append(
            (
                f"{each.b} - {each.a}",
                _signed(each.top1, 2),
                "-" if each.loss is None else _signed(each.loss, 4),
                _p(each.p),
                _p(each.p_corrected),
                "-" if apart is None else str(apart.count),
                _right_there(apart),
            )
        )
    yield from _filled(rows, left={0})


def _classes(found: Comparison, stored: Stored, level: float) -> Iterator[str]:
    ordered = sorted(found.classes, key=lambda each: each.top1.value)
    worse = [each for each in ordered if each.top1.value < 0][:_MOST_CLASSES]
    better = [each for each in ordered[::-1] if each.top1.value > 0][:_MOST_CLASSES]
    yield ""
    if not worse and not better:
        yield f"{found.b} - {found.a}: the same in each of {len(found.classes)} classes"
        return
    rows: list[tuple[str, ...]] = [
        ("class", "pictures", found.a, found.b, f"points ({100 * level:g} %)", "corrected p")
    ]
    rows += [_class_row(each, stored) for each in (*better, *worse[::-1])]
    yield f"{found.b} - {found.a}, the classes that differ most"
    yield from _filled(rows, left={0})


def _filled(rows: Sequence[Sequence[str]], *, left: Collection[int]) -> Iterator[str]:
    """Align rows without the columns that have nothing in them; all are flush right but `left`."""
    columns = [*zip(*rows, strict=True)]
    kept = [place for place, column in enumerate(columns) if set(column[1:]) != {"-"}]
    numbers = {now for now, place in enumerate(kept) if place not in left}
    yield from aligned([[row[place] for place in kept] for row in rows], numbers=numbers)


def _class_row(each: ClassDifference, stored: Stored) -> tuple[str, ...]:
    return (
        stored.class_name(each.number),
        str(each.count),
        f"{each.a_top1:.2f} %",
        f"{each.b_top1:.2f} %",
        _signed(each.top1, 1),
        _p(each.p_corrected),
    )


def _bar(found: Comparison, of: Estimate, *, shown: bool) -> Bar:
    return Bar(
        label=f"{found.b}\n- {found.a}", value=of.value, low=of.low, high=of.high, shown=shown
    )


def _excludes_zero(of: Estimate) -> bool:
    return of.low is not None and of.high is not None and (of.low > 0 or of.high < 0)


def _percent(of: Estimate) -> str:
    return f"{of.value:.2f} % ({of.low:.2f} to {of.high:.2f})"


def _signed(of: Estimate, digits: int) -> str:
    text = f"{of.value:+.{digits}f}"
    if of.low is None or of.high is None:
        return f"{text} (unknown)"
    return f"{text} ({of.low:+.{digits}f} to {of.high:+.{digits}f})"


def _plus_minus(of: SeedMean | None, digits: int) -> str:
    if of is None:
        return "-"
    return f"{of.mean:.{digits}f} +- {of.standard_error:.{digits}f}"


def _right_there(apart: Disagreement | None) -> str:
    if apart is None or not apart.count:
        return "-"
    x, y = (100 * right / apart.count for right in (apart.b_right, apart.a_right))
    return f"{x:.1f} / {y:.1f} %"


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
