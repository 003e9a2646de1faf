"""Sweeps: which jobs one has, how each ended, and which are still to be run."""
