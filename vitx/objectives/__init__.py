"""Objectives: (model, batch) -> (loss, terms)."""
