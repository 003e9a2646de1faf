# Set-up, training and checks. `make` lists the targets.

PYTHON ?= python3
VENV := .venv
ARGS ?=
TEST_PROCESSES ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
# What a CPU installation takes, in MB; one for CUDA takes three times as much.
DISK_MB := 2000

.DEFAULT_GOAL := help
.PHONY: help install train test test-thorough test-slow lint types bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s  %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## make .venv with the pinned versions; again only when those change

train: $(STAMP)  ## train the default experiment: make train ARGS='model=xcit_s12 epochs=5'
	$(BIN)/vitx train $(ARGS)

test: $(STAMP)  ## the tests of two minutes
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

test-thorough: $(STAMP)  ## the tests of ten minutes more: programs, recipes, teachers, servers
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m 'thorough and not slow' $(ARGS)

test-slow: $(STAMP)  ## the tests of half an hour: kills, world sizes, sweeps
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP)  ## rules, format, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

bench: $(STAMP)  ## run every program in benchmarks/
	@set -e; for file in benchmarks/*.py; do $(BIN)/python $$file $(ARGS); done

clean:  ## remove .venv, builds and caches; runs stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# An interpreter that went away leaves a stamp that means nothing.
ifneq ($(shell test -x $(BIN)/python && echo yes),yes)
.PHONY: $(STAMP)
endif

# POSIX shell. The mark says that a set-up began and did not end: what it left is thrown away. An
# environment without the mark, such as one made by hand, is completed and not emptied.
define SETUP
mark=$(VENV)/.installing
fail() { echo "make install: $$*" >&2; exit 1; }
in_log() { grep -Eq "$$1" $(LOG); }
free_mb() { df -Pk "$$1" | awk 'END { print int($$4 / 1024) }'; }
disk_full() {
    fail "the disk is full: $(VENV) takes $(DISK_MB) MB, $$(free_mb $(VENV)) MB are free;" \
        "free some and run make install again"
}
explain() {
    if [ "$$(free_mb $(VENV))" -lt 5 ] || in_log 'No space left on device'; then disk_full; fi
    if in_log 'ensurepip'; then
        fail "$(PYTHON) has no venv module (Debian, Ubuntu: apt install python$$version-venv);" \
            "install it and run make install again"
    fi
    if in_log 'NewConnection|NameResolution|(Connect|Read)Timeout|ProxyError|SSLError'; then
        fail "no network: pip can't reach its package index; run make install again when it can" \
            "(details: $(LOG))"
    fi
    if in_log 'ResolutionImpossible|No matching distribution'; then
        fail "no network, or a package index without the versions of constraints.txt" \
            "(details: $(LOG))"
    fi
    fail "$$1 failed: $$(grep -E '^ *([A-Za-z]+Error|ERROR|error): ' $(LOG) | tail -n 1)" \
        "(details: $(LOG))"
}

version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "'$(PYTHON)' does not run; name a Python 3.11 or newer: make install PYTHON=python3.11"
case $$version in
3.1[1-9] | 3.[2-9][0-9]) ;;
*) fail "$(PYTHON) is Python $$version, vitx needs 3.11 or newer: make install PYTHON=python3.11" ;;
esac

rm -f $(STAMP)
[ -x $(BIN)/python ] || [ ! -e $(VENV)/pyvenv.cfg ] || : > $$mark
if [ -e $$mark ]; then find $(VENV) -mindepth 1 ! -path $$mark -delete; fi
mkdir -p $(VENV) 2>/dev/null || fail "can't make the folder $(VENV); is it writable?"
if [ ! -e $(BIN)/pip ] && [ "$$(free_mb $(VENV))" -lt $(DISK_MB) ]; then disk_full; fi
: > $$mark || disk_full

echo "Setting up $(VENV) with Python $$version: about two minutes, watch $(LOG)"
$(PYTHON) -m venv $(VENV) > $(LOG) 2>&1 || explain venv
$(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
    -c constraints.txt -e '.[dev,slurm]' >> $(LOG) 2>&1 || explain pip
mv $$mark $(STAMP)
endef
export SETUP

$(STAMP): pyproject.toml constraints.txt
	@sh -c "$$SETUP"
