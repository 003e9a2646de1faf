"""Optimizers, parameter groups, learning-rate schedules and the weight average."""
