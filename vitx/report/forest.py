"""A forest plot: differences with their intervals, one a line, beside the line of no difference."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitx.escapes import visible, visible_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
_LABEL_WIDTH, _CAPTION_WIDTH = 36, 132  # characters of a line
_INCHES, _LINE_INCHES = 9.0, 0.19  # width of the picture, height of a line of its text
_SHOWN, _OPEN = "#1f4e79", "#8a8a8a"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A difference: `low` and `high` are None where no interval is known."""

    label: str
    """In lines, if it has several."""
    value: float
    low: float | None
    high: float | None
    shown: bool
    """Whether the difference counts as shown: a filled mark."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Differences of one quantity; `axis` says of which, its unit and its direction."""

    axis: str
    bars: Sequence[Bar]
    digits: int


def draw_forest(panels: Sequence[Panel], *, title: str, caption: str) -> bytes:
    """Draw differences as points with bars.

    Names are drawn as they are: nothing in them is read as a formula, or obeyed. Neither the
    user's settings of matplotlib nor its global state are read.

    Args:
        panels: side by side; all have the same labels in the same order.
        title: above them.
        caption: below them; what is drawn, of how many, and what the bars cover.

    Returns:
        A PNG, the same bytes for the same input.
    """
    # Takes half a second, and keeps a list of the fonts in the user's cache.
    import io

    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = [_wrapped(bar.label) for bar in panels[0].bars]
    lines = textwrap.wrap(visible_line(caption), _CAPTION_WIDTH)
    rows = sum(max(2, 1 + label.count("\n")) for label in labels)
    below, above = _LINE_INCHES * (0.85 * len(lines) + 3.4), 0.5
    height = below + above + 1.6 * _LINE_INCHES * (rows + 0.5)
    with style.context("default"), warnings.catch_warnings():
        # A character that no font here has is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=(_INCHES, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        figure.subplots_adjust(
            left=0.27, right=0.975, bottom=below / height, top=1 - above / height, wspace=0.12
        )
        for place, (one, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw(one, panel, labels if place == 0 else [])
        figure.text(
            0.015,
            1 - 0.3 / height,
            visible_line(title),
            size=11,
            weight="bold",
            va="center",
            parse_math=False,
        )
        figure.text(0.015, 0.1 / height, "\n".join(lines), size=8, va="bottom", parse_math=False)
        written = io.BytesIO()
        figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _wrapped(label: str) -> str:
    parts = visible(label).split("\n")
    return "\n".join(line for part in parts for line in textwrap.wrap(part, _LABEL_WIDTH))


def _draw(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    """Draw one quantity, first line at the top; the numbers stand above their bars."""
    for row, bar in enumerate(panel.bars):
        colour = _SHOWN if bar.shown else _OPEN
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [row, row], color=colour, linewidth=2.2)
        face = colour if bar.shown else "white"
        axes.plot([bar.value], [row], "o", color=colour, markerfacecolor=face, markersize=7)
        axes.annotate(
            _number(bar, panel.digits),
            (bar.value, row),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            size=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    axes.axvline(0, color="black", linewidth=0.8, linestyle="--")
    axes.set_ylim(len(panel.bars) - 0.6, -0.6)
    _widen(axes, panel)
    axes.set_xlabel(panel.axis, size=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if labels:
        axes.set_yticks(range(len(labels)), labels, size=8.5, parse_math=False)


def _widen(axes: Axes, panel: Panel) -> None:
    """Leave room for the numbers, which are centred on their marks, and for the line at 0."""
    ends = [end for bar in panel.bars for end in (bar.value, bar.low, bar.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.22 * (high - low or 1.0)
    axes.set_xlim(low - margin, high + margin)


def _number(bar: Bar, digits: int) -> str:
    text = f"{bar.value:+.{digits}f}"
    if bar.low is not None and bar.high is not None:
        text += f" ({bar.low:+.{digits}f} to {bar.high:+.{digits}f})"
    return text
