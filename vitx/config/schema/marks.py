"""Marks of values that stand for something else."""

from __future__ import annotations

MISSING = "???"  # OmegaConf's mark of a value that has to be given
# What completes a word that is typed without `=`, where it is no group of options.
FILE, CHOICE, RECIPE = "<file>", "<choice>", "<recipe>"
