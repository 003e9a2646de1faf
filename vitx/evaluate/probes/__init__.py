"""What frozen features are worth: simple classifiers on top of them. Tensors in, records out."""
