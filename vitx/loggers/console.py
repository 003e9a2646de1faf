"""What the user sees: lines that also go to log.txt, and the progress of training."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vitx.files import not_for_others
from vitx.records import Plan
from vitx.redaction import shown

# Without a terminal: at most one progress line in so many seconds, besides evaluations.
PLAIN_INTERVAL_S = 10.0


class _RichConsole(RichConsole):
    def on_broken_pipe(self) -> None:
        """Go on in silence: whoever read the output is gone, and training is not to end of it."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """Prints lines and keeps them in log.txt."""

    def __init__(self, log: Path | None = None, *, quiet: bool = False) -> None:
        self._log = log
        self._rich = _RichConsole(highlight=False, soft_wrap=True, quiet=quiet)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._rich.is_terminal and not self._rich.quiet

    @property
    def rich(self) -> RichConsole:
        """The console that progress is drawn on."""
        return self._rich

    def say(self, line: str) -> None:
        """Print a line, without secrets; a log that can't be written is no reason to stop."""
        line = shown(line)
        self._rich.print(line, markup=False)
        if not self.is_terminal:
            sys.stdout.flush()
        if self._log is not None:
            try:
                with open(self._log, "a", encoding="utf-8", opener=not_for_others) as file:
                    file.write(line + "\n")
            except OSError:
                self._log = None


class ProgressLogger:
    """Shows training: a live bar on a terminal, else a line now and then."""

    def __init__(self, console: Console, plan: Plan, *, start_step: int) -> None:
        self._console, self._plan = console, plan
        self._last_line = float("-inf")
        self._start = (start_step, time.monotonic())
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[epoch]}"),
                BarColumn(bar_width=None),
                _Steps(),
                TextColumn("{task.fields[figures]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console.rich,
            )
            self._task = self._bar.add_task(
                "", total=plan.total_steps, completed=start_step, epoch="", figures=""
            )
            self._bar.start()

    def advance(self, step: int) -> None:
        """Move the bar to a step."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def log(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics."""
        step, evaluated = int(row["step"]), "val/top1" in row
        epoch = f"epoch {row['epoch']:.4g}/{self._epochs():.4g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, figures=_figures(row))
        elif evaluated or time.monotonic() - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            total = self._plan.total_steps
            self._console.say(
                f"{epoch}  step {step}/{total}  {_figures(row)}  left {self._left(step)}"
                f"{_evaluation(row)}"
            )
            return
        if evaluated:
            self._console.say(f"{epoch}  step {step}{_evaluation(row)}")

    def flush(self) -> None:
        """Do nothing: what was shown was shown."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _epochs(self) -> float:
        return self._plan.total_steps / self._plan.steps_per_epoch

    def _left(self, step: int) -> str:
        start, since = self._start
        if step <= start:
            return "?"
        seconds = (time.monotonic() - since) / (step - start) * (self._plan.total_steps - step)
        return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"


class _Steps(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed)}/{int(task.total or 0)}")


def _figures(row: Mapping[str, Any]) -> str:
    parts = [f"loss {row['train/loss']:.4f}" if "train/loss" in row else ""]
    parts.append(f"lr {row['train/lr']:.2e}")
    if "train/images_per_second" in row:
        parts.append(f"{row['train/images_per_second']:.0f} img/s")
        parts.append(f"data wait {100 * row['train/data_wait']:.0f} %")
    if "train/exact_sums" in row:
        parts.append(f"exact sums {100 * row['train/exact_sums']:.0f} %")
    return "  ".join(part for part in parts if part)


def _evaluation(row: Mapping[str, Any]) -> str:
    text = ""
    for prefix, name in (("val", "val"), ("val_ema", "ema")):
        if f"{prefix}/top1" in row:
            text += f"  {name} top-1 {row[f'{prefix}/top1']:.2f} % loss {row[f'{prefix}/loss']:.4f}"
    return text
