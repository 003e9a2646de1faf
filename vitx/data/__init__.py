"""From a dataset on disk or on the Hub to batches: sources, decoding, augmentation, loading."""
