"""vitx: a command-line experiment runner for vision transformers."""

__version__ = "0.1.0"
