"""Typed configuration: schema, durations, composition, checks. Never imports torch."""
