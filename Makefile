# `make demo` and `make test` work on a fresh checkout: they make .venv, install, and do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard kernels/*.[ch] vcodec/entropy/*.[ch] vcodec/flow/*.[ch])

export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint build clean

$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=70" wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

build: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/python -m vcodec.cli demo --output demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf build dist *.egg-info
