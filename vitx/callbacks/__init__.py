"""What happens around training steps: evaluation, metrics, checkpoints, the non-finite guard."""
