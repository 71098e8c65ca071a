# Each target works alone on a machine with Python 3.11 or newer: it makes .venv, installs, and runs.
# PYTHON=… chooses the interpreter, VENV=… the folder.

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help install install-dev demo test test-all test-faults check format bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(VENV)/.installed  ## make .venv with the package in it

install-dev: $(VENV)/.installed-dev  ## the same with what tests and training need

demo: install  ## the bundled team answers real questions, beside each checkpoint alone
	@$(BIN)/taketurns pocket demo

test: install-dev  ## run the tests
	@$(BIN)/python -m pytest -m "not slow"

test-all: install-dev  ## run the tests, the slow ones too
	@$(BIN)/python -m pytest

test-faults: install-dev  ## 5,000 long answers through servers that fail at random
	@$(BIN)/python -m pytest tests/engines/http -m slow

check: install-dev  ## ruff and mypy --strict
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: install-dev  ## let ruff format and mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: install  ## what taking turns costs beside one model alone
	@$(BIN)/taketurns bench overhead

clean:  ## remove .venv and what the tools cached
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	@echo "installing taketurns into $(VENV) (a few minutes the first time)" >&2
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	@echo "installing taketurns[dev,serve,train] into $(VENV) (a few minutes the first time)" >&2
	@$(PIP) --editable '.[dev,serve,train]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14 python; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found="$$python"; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "taketurns needs Python 3.11 or newer and none was found; install it, or run: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$found cannot make a virtual environment; on Debian and Ubuntu: sudo apt install python3-venv" >&2; \
	    exit 1; \
	fi
