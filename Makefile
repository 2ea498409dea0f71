# make help lists the targets. Each makes .venv from pyproject.toml first, when it is missing or older.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: help demo test check lint docs
.NOTPARALLEL:

help:
	@echo "make demo   run the demonstration on data that ship with scikit-learn"
	@echo "make test   run the tests"
	@echo "make check  lint, formatting, types and the tests: what CI runs"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "PYTHON=python3.12 picks the interpreter, WORKERS=1 tests in one process;"
	@echo "ARGS='...' is passed on to demo and test"

demo: $(VENV)/.installed
	$(BIN)/fedcircuit demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# A stamp is written only after pip has finished, so an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@command -v "$(PYTHON)" > /dev/null || { \
	  echo "'$(PYTHON)' was not found; name a Python of 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fedcircuit needs Python 3.11 or newer, '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1);" \
	    "name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
