"""What a model can be measured on, by name."""
