"""One file per verb: `main` hands the command line to Hydra, `run` is the story."""
