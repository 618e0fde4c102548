# `make demo` and `make test` need Python 3.10 or newer and pip, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint test-peers coverage bench clean

demo: $(VENV)/.installed
	$(BIN)/flopscan count vmamba_tiny

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not peers and not slow and not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-peers: $(VENV)/.peers
	$(BIN)/python -m pytest -m "peers and not slow"

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m slow -s

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/run.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e .[dev]
	touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(PIP) -e .[dev,peers]
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
