# make help lists the targets. Each makes .venv from pyproject.toml first, when it is missing or older.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

BENCH := $(BIN)/python experiments/benchmarks
DATA ?= $(FEDCIRCUIT_DATA)

.PHONY: help demo test test-flower check deploy-test lint docs bench bench-made-up bench-mnist validate-information soak soak-hour
.NOTPARALLEL:

help:
	@echo "make demo   run the demonstration on data that ship with scikit-learn"
	@echo "make test   run the tests"
	@echo "make test-flower  the Flower-facing tests with the oldest supported release, then the newest"
	@echo "make check  lint, formatting, types and the tests: what CI runs"
	@echo "make deploy-test  a deployment on the loopback address, with TLS and node authentication"
	@echo "make soak   faults done on purpose, in seconds; make soak-hour does more of them"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make bench DATA=FOLDER  run every benchmark with small settings; FOLDER holds MNIST/raw"
	@echo "make validate-information  compare the estimators of mutual information with known Gaussians"
	@echo "PYTHON=python3.12 picks the interpreter, WORKERS=1 tests in one process;"
	@echo "ARGS='...' is passed on to demo, test and validate-information"

demo: $(VENV)/.installed
	$(BIN)/fedcircuit demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The oldest release lies in a folder of its own that sees everything else of .venv: 400 MB, no torch.
FLOWER_OLDEST := 1.22.0
OLD := .venv-flower-$(FLOWER_OLDEST)
FLOWER_TESTS := tests/flower_projects tests/strategies tests/clients tests/app/engines/test_grid.py \
  tests/app/engines/test_simulation.py

test-flower: $(OLD)/.installed
	$(OLD)/bin/python -m pytest -n 0 -p no:cacheprovider -m "not slow" $(FLOWER_TESTS) $(ARGS)
	$(BIN)/python -m pytest -n 0 -m "not slow" $(FLOWER_TESTS) $(ARGS)

$(OLD)/.installed: pyproject.toml | $(VENV)/.installed-dev
	$(BIN)/python -m venv --clear $(OLD)
	$(OLD)/bin/python -m pip install --disable-pip-version-check -q "flwr[simulation]==$(FLOWER_OLDEST)"
	$(OLD)/bin/python -c "import pathlib, sysconfig; \
	  pathlib.Path(sysconfig.get_path('purelib'), 'zz_main.pth').write_text( \
	  'import site; site.addsitedir(%r)' % '$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path(\"purelib\"))")')"
	@touch $@

check: lint test

# SuperLink with TLS, three SuperNodes with authentication, three rounds, the same bits as in process.
deploy-test: $(VENV)/.installed-dev
	$(BIN)/python experiments/deployment/check.py $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Faults done on purpose, in seconds; soak-hour does what docs/reliability.md states, in about an hour.
SOAK := $(BIN)/python experiments/reliability
OUT ?= runs/soak

soak soak-hour: export OMP_NUM_THREADS = 1

soak: $(VENV)/.installed
	$(SOAK)/corruption.py --tries 40
	$(SOAK)/config_fuzz.py --tries 60

soak-hour: $(VENV)/.installed
	$(SOAK)/corruption.py --tries 400
	$(SOAK)/config_fuzz.py --tries 600
	$(SOAK)/endurance.py
	$(SOAK)/killed_studies.py --kills 300
	$(BIN)/python experiments/benchmarks/kill_test.py --kills 300
	$(SOAK)/deployment_faults.py $(OUT) --tries 5
	$(SOAK)/deployment_faults.py $(OUT) --table

# Small settings show that a benchmark runs, not what it measures; one that misses its limit does not
# stop the others. The first lines of each script give the settings for figures.
bench: bench-made-up bench-mnist

bench bench-made-up bench-mnist: export OMP_NUM_THREADS = 1

bench-made-up: $(VENV)/.installed-bench
	-$(BENCH)/planted_circuits.py --seeds 1 --cases plain,HARD
	-$(BENCH)/planted_federation.py --seeds 1 --kinds mlp
	-$(BENCH)/engine_overhead.py --clients 10 --rounds 2 --repeats 3
	-$(BENCH)/record_size.py --clients 20
	-$(BENCH)/lips_overhead.py --repeats 3
	-$(BENCH)/kill_test.py --kills 10
	-$(BENCH)/demo_time.py --repeats 2

bench-mnist: $(VENV)/.installed-bench
ifeq ($(strip $(DATA)),)
	@echo "left out, for want of MNIST: make bench DATA=FOLDER, where FOLDER holds MNIST/raw" >&2; exit 1
else
	-$(BENCH)/captum_attribution.py --data "$(DATA)" --repeats 2 --classes 10
	-OMP_NUM_THREADS=1 $(BENCH)/discover_memory.py --limit 150
	-$(BENCH)/discovery_speed.py --data "$(DATA)" --repeats 1
	-$(BENCH)/edge_circuits.py --data "$(DATA)" --seeds 0 --sparsity 0.95 --repeats 1
	-$(BENCH)/circuit_quality.py --data "$(DATA)" --seeds 2 --sparsities 0.95 --methods attribution
	-$(BENCH)/verdict_calibration.py --data "$(DATA)" --seeds 2 --sparsities 0.95 --train 1000
	-$(BENCH)/analysis_cost.py --data "$(DATA)"
	-$(BENCH)/round_cost.py --data "$(DATA)" --clients 3
	-$(BENCH)/information_cost.py --data "$(DATA)" --images 4000 --clients 2 --pool 300
	-$(BENCH)/what_if_cost.py --data "$(DATA)" --clients 3 --epochs 1 --repeats 1
	-$(BENCH)/rules_overhead.py --data "$(DATA)" --clients 3 --images 600 --repeats 1
endif

# A few minutes; ARGS=--quick takes seconds. Fails where a reference figure is missed.
validate-information: export OMP_NUM_THREADS = 1

validate-information: $(VENV)/.installed
	$(BENCH)/information_gaussians.py $(ARGS)

# A stamp is written only after pip has finished, so an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[bench]"
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
