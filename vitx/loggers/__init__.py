"""Where metrics go: metrics.jsonl is the truth, everything else mirrors it."""
