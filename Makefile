# `make demo` and `make test` do all set-up themselves on a machine with Python 3.11+ and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types contracts unit slow bench clean

help:
	@echo "make demo   install, then map the population density of Nepal from real data (work/nepal_density)"
	@echo "make test   install, then lint, check types and import contracts, and run every test"
	@echo "make slow   the tests that take minutes of waiting for other processes"
	@echo "make bench  the benchmarks, beside their peers"
	@echo "make clean  remove the virtual environment and the work folder"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "geopov needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing geopov[$*] into $(VENV); the network stage brings torch, so the first time takes minutes and gigabytes."
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-all
	$(BIN)/geopov run pipelines/nepal.yaml

test: $(VENV)/.installed-dev lint types contracts unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	$(BIN)/lint-imports

# Two processes with one thread each: most tests are single-threaded. A file's tests stay together, with their fixtures,
# and files are taken in the order that tests/conftest.py gives them, rather than by their numbers of tests.
unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# What starts many processes and waits for them: two devices, killed processes, hosts in namespaces, SLURM's executor.
slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/tiles.py
	$(BIN)/python bench/features.py
	$(BIN)/python bench/ridge.py
	$(BIN)/python bench/real.py
	$(BIN)/python bench/published.py
	$(BIN)/python bench/survey.py
	$(BIN)/python bench/displacement.py
	$(BIN)/python bench/density.py
	$(BIN)/python bench/extractors.py
	$(BIN)/python bench/surroundings.py
	$(BIN)/python bench/transfer.py
	$(BIN)/python bench/compare.py --quick
	$(BIN)/python bench/map.py
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/estimate.py

clean:
	rm -rf $(VENV) work
