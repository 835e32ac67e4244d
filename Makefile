# `make demo` and `make test` are all a newcomer needs: each makes .venv first when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo ui test check docs tutorials format nightly conformance package gpu clean

demo: $(VENV)/.installed
	$(BIN)/roselora demo

# The page in which the demo model is edited; it opens in the browser.
ui: $(VENV)/.installed
	$(BIN)/roselora ui demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages as a site, in site/; a link or an anchor that leads nowhere is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The notebooks in docs/tutorials, run from the first cell to the last; what they print is committed with them.
tutorials: $(VENV)/.installed
	$(BIN)/python -m tests.documented.notebooks

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What takes too long for every commit: each command that a page names, really run, and all attacks, counted.
nightly: $(VENV)/.installed
	$(BIN)/python -m pytest -m nightly --numprocesses auto --dist worksteal --durations 20

# PEFT's own tests with our config in LoRA's place; what they import besides is installed for them alone.
conformance: $(VENV)/.conformance
	$(BIN)/python -m benchmarks.conformance.run

# The wheel, installed into an empty environment away from here, and tried there; PYTHON=python3.13 names another one.
package: $(VENV)/.installed
	$(BIN)/python -m tests.package.check_installed --python $(PYTHON)

# On one NVIDIA GPU: the tests marked for it, and what training and edits cost on a model of 8B's shape.
gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu

$(VENV)/.conformance: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,conformance]'
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache
