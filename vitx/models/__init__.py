"""Models: timm's architectures, adapted to the dataset, and where their weights come from."""
