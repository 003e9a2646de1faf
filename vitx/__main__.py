"""`python -m vitx <verb> ...`: the same program as `vitx`."""

from vitx.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
