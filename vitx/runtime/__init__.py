"""The machine: device, precision, randomness, signals."""
