"""Small run directories with a stored result, written without training anything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitx.config.resolve import dump_yaml
from vitx.config.schema import ModelConfig, TrainConfig

CLASSES = ("ape", "bee", "cat", "dog")
LABELS = np.arange(200) % len(CLASSES)


def write_run(
    path: Path,
    correct: np.ndarray,
    *,
    label: np.ndarray = LABELS,
    index: np.ndarray | None = None,
    loss: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = CLASSES,
    suite: str = "val",
    model: str = "vit_tiny_patch16_224",
    seed: int = 0,
    older: bool = False,
    numbers: dict[str, Any] | None = None,
) -> Path:
    """Write a run whose result is right where `correct` says so, and off by one class elsewhere.

    With `older` it has the columns of before: index, label, prediction, confidence.
    """
    rows = len(label)
    config = TrainConfig(model=ModelConfig(name=model), seed=seed, run_dir=str(path))
    (path / "eval").mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(dump_yaml(dataclasses.replace(config)))
    (path / "run.json").write_text(json.dumps({"classes": classes and list(classes)}))
    columns: dict[str, Any] = {
        "index": np.arange(rows) if index is None else index,
        "label": label,
        "prediction": np.where(correct, label, (label + 1) % len(CLASSES)),
        "confidence": np.full(rows, 0.5, np.float32),
    }
    if not older:
        columns |= {
            "name": list(names or [""] * rows),
            "correct": correct,
            "loss": np.where(correct, 0.1, 2.0) if loss is None else loss,
        }
    pq.write_table(pa.table(columns), path / "eval" / f"{suite}.parquet")
    written = {
        "top1": 100 * float(correct.sum()) / rows,
        "count": rows,
        "step": 10,
        "weights": "model",
        "suite": suite,
        **(numbers or {}),
    }
    (path / "eval" / f"{suite}.json").write_text(json.dumps(written))
    return path


def right(*wrong: int, rows: int = len(LABELS)) -> np.ndarray:
    """Return [rows] bool, false at the rows `wrong`."""
    correct = np.ones(rows, bool)
    correct[list(wrong)] = False
    return correct
