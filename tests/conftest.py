"""For all tests: torch's threads wait as they do in the program."""

from vitx.runtime.openmp import wait_politely

wait_politely()
