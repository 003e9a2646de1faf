"""Checkpoints: safetensors and JSON, committed atomically, verified when read."""
