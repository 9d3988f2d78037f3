# Two commands: `make demo` and `make test`. Both make what they need in .venv, once.
#   PYTHON=python3.12   the interpreter that .venv is made from, 3.10 or newer
#   VENV=.venv          where the environment is
#   JOBS=auto           tests that run side by side; as many as there are cores, unless you say

# Threads that wait do not spin: on a shared machine spinning slows everything tenfold.
export OMP_WAIT_POLICY ?= passive

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The site's tool needs Python 3.11. Where .venv is older, the site has .venv-docs, of the first interpreter that is not.
FIRST = $(or $(wildcard $(BIN)/python),$(PYTHON))
NEWER := python3.14 python3.13 python3.12 python3.11 $(wildcard $(HOME)/.pyenv/versions/3.1[1-9]*/bin/python)

PINS := requirements/torch.txt requirements/run.txt pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long lint docs site setup clean distclean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## Set up, then compress the network that comes with prunec (no download, no GPU)
	$(BIN)/prunec demo

test: lint ## Set up, then lint, check the types and run the tests
	$(BIN)/python -m pytest -m "not timed" --numprocesses $(JOBS) --dist worksteal
	$(BIN)/python -m pytest -m timed

test-long: $(VENV)/.test ## Set up, then export 20,000 random networks and compare each with the module that it comes from
	export PRUNEC_RANDOM_NETWORKS=20000 PRUNEC_RANDOM_SEED=$${PRUNEC_RANDOM_SEED:-$$(date +%s)}; \
	echo "PRUNEC_RANDOM_SEED=$$PRUNEC_RANDOM_SEED"; \
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal tests/deploy/test_random_exports.py

lint: $(VENV)/.test ## Set up, then ruff and mypy only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: ## Set up, then build the documentation site into build/docs; a warning or a broken link is an error
	@new='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if $(FIRST) -c "$$new" 2>/dev/null; then exec $(MAKE) --no-print-directory site; fi; \
	for python in $(PYTHON) $(NEWER); do \
		if $$python -c "$$new" 2>/dev/null; then exec $(MAKE) --no-print-directory site VENV=$(VENV)-docs PYTHON=$$python; fi; \
	done; \
	echo "the site needs Python 3.11 or newer, and none was found: say make docs PYTHON=/path/to/python3.12" >&2; exit 1

site: $(VENV)/.docs
	$(BIN)/python docs/generate.py build
	$(BIN)/zensical build --strict --clean --config-file build/zensical.toml
	$(BIN)/python docs/check_links.py build/docs
	@echo "open build/docs/index.html in a browser; to search it: python3 -m http.server -d build/docs"

setup: $(VENV)/.test ## Set up only: prunec, editable, and the tools for its tests

clean: ## Remove what was built, cached or written by the demo
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find prunec passes tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV) $(VENV)-docs

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no '$(PYTHON)' here: install Python 3.10 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "prunec needs Python 3.10 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): say for instance make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(PINS) | $(BIN)/python
	$(PIP) install -r requirements/torch.txt
	$(PIP) install -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	$(PIP) install -r requirements/test.txt
	@touch $@

$(VENV)/.docs: requirements/docs.txt $(VENV)/.run
	$(PIP) install -r requirements/docs.txt
	@touch $@
