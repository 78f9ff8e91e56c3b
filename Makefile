# make run     install into .venv and answer the example question: a table, a report and a trace
# make test    every check: format, lint, types, layers, tests
# make score   score the predictions on a folder of measurements: make score MEASUREMENTS=FOLDER
# make bench   speed
# make browser tests that need a real browser
# make docs    write the generated reference pages
# make lock    renew the pinned versions
# make clean   remove everything that was built
#
# Needs python3 (3.11 or later, with venv) and make. Nothing is rebuilt unless a file that it depends on changed.

PYTHON ?= python3
MEASUREMENTS ?= ../shared/data
SCENARIO ?= scenarios/training/llama3.1-405b-8192-h100.yaml
OUT ?= out

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NAME := $(notdir $(basename $(SCENARIO)))
CHECKED := perfmodel tests tools

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: run test lint types layers pytest score bench browser docs lock clean
.DEFAULT_GOAL := run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "perfmodel needs Python 3.11 or later; say which with: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# --no-build-isolation: the build backend is pinned like everything else.
$(VENV)/installed: pyproject.toml constraints/constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints/constraints.txt hatchling
	$(PIP) install --constraint constraints/constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed constraints/dev.txt
	$(PIP) install --constraint constraints/dev.txt --no-build-isolation --editable '.[dev,cluster]'
	@touch $@

run: $(VENV)/installed
	@mkdir -p $(OUT)
	$(BIN)/perfmodel run $(SCENARIO) --report $(OUT)/$(NAME).html --trace $(OUT)/$(NAME).trace.json
	@echo "report: $(OUT)/$(NAME).html (open it in a browser)"
	@echo "trace:  $(OUT)/$(NAME).trace.json (open it in a trace viewer, for example Perfetto)"

test: lint types layers pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/installed-dev
	$(BIN)/lint-imports --no-logo

pytest: $(VENV)/installed-dev
	$(BIN)/python -m pytest

score: $(VENV)/installed
	$(BIN)/python tools/score.py $(MEASUREMENTS)

bench: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m benchmark --benchmark-columns=min,median,ops --benchmark-sort=name

browser: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m browser

docs: $(VENV)/installed
	$(BIN)/python tools/generate_reference.py docs/reference
	$(BIN)/python -m perfmodel.specs.json_schema docs/reference/schemas
	$(BIN)/python -m perfmodel.engine.result_schema > docs/reference/result.schema.json
	$(BIN)/python tools/generate_validation.py

lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --quiet install hatchling .
	tools/freeze.sh $(VENV)-lock/bin/python "what perfmodel needs to run, and of its build backend" > constraints/constraints.txt
	$(VENV)-lock/bin/python -m pip --quiet install '.[dev,cluster]'
	tools/freeze.sh $(VENV)-lock/bin/python "everything that make test installs" > constraints/dev.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock $(OUT) dist build .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
