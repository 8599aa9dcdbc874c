# Everything a newcomer needs: `make quickstart` and `make test`. Both make .venv when it is missing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
WORKERS ?= 2

# One thread a process: the tests run in WORKERS processes, and threads that compete slow each other down.
TEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

.PHONY: help quickstart test test-all quality docs pictures style clean
.DEFAULT_GOAL := help

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is younger than all that decides what is installed, so a second call installs nothing.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(VENV)/.installed  ## Distil a reader from nothing; goes on where it stopped. ARGS=--overwrite starts anew.
	$(BIN)/python tools/distill.py --config configs/quickstart.yaml $(or $(ARGS),--resume auto)

test: $(VENV)/.installed  ## Run the tests (under five minutes). ARGS="-k charset" runs some.
	$(TEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.installed  ## Run the slow tests too.
	$(TEST) $(ARGS)

quality: $(VENV)/.installed  ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

# Material's notice at each build is switched off. It says: fixes until May 2027, and then Zensical reads mkdocs.yml.
docs: $(VENV)/.installed  ## Build the documentation as a site, in site/. ARGS="--site-dir DIR" puts it elsewhere.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

pictures: $(VENV)/.installed  ## Draw the documentation's pictures again. ARGS="method words" draws some.
	$(BIN)/python -m docs.pictures.draw $(ARGS)

style: $(VENV)/.installed  ## Mend what ruff can mend.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and every cache; runs/ stays.
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
