"""Evaluation: every sample once, exact counts."""
