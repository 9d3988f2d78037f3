# Two commands: `make demo` and `make test`. Both make what they need in .venv, once.
#   PYTHON=python3.12   the interpreter that .venv is made from, 3.10 or newer
#   VENV=.venv          where the environment is
#   PYTHONS=3.10 …      the interpreters of `make pythons-test`: names or paths
#   TORCH=              for `make lowest-test`, this torch instead of the lowest: 2.13.0, say
#   JOBS=auto           tests that run side by side; as many as there are cores, unless you say

# Threads that wait do not spin: on a shared machine spinning slows everything tenfold.
export OMP_WAIT_POLICY ?= passive

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
PYTHONS ?= 3.10 3.11 3.12 3.13
TORCH ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The site's tool needs Python 3.11. Where .venv is older, the site has .venv-docs, of the first interpreter that is not.
FIRST = $(or $(wildcard $(BIN)/python),$(PYTHON))
NEWER := python3.14 python3.13 python3.12 python3.11 $(wildcard $(HOME)/.pyenv/versions/3.1[1-9]*/bin/python)

PINS := requirements/torch.txt requirements/run.txt pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long lint docs site wheel wheel-test lowest-test pythons-test dist setup clean distclean

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

wheel: $(VENV)/.dist ## Set up, then build the sdist and, from it, the wheel, into dist
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build --no-isolation --outdir dist

wheel-test: wheel ## Build, then install the wheel where nothing else is, and check what is installed there
	rm -rf build/bare
	$(BIN)/python -m venv --without-pip build/bare
	$(PIP) --python build/bare/bin/python install -r requirements/torch.txt
	$(PIP) --python build/bare/bin/python install "$$(echo dist/prunec-*.whl)[cpu]"
	build/bare/bin/python -I release/installed.py

lowest-test: wheel ## Build, then check the wheel beside the lowest version of each dependency that pyproject.toml admits
	rm -rf build/lowest
	$(BIN)/uv venv --quiet --no-python-downloads --python $(BIN)/python build/lowest
	@printf '%s\n' $(if $(TORCH),torch==$(TORCH)) > build/lowest.txt
	$(BIN)/uv pip install --python build/lowest --resolution lowest-direct --overrides build/lowest.txt "$$(echo dist/prunec-*.whl)[cpu]"
	build/lowest/bin/python -I release/installed.py

pythons-test: wheel ## Build, then check the wheel in every Python of PYTHONS; one that is not here is an error
	@for python in $(PYTHONS); do \
		echo "== Python $$python" && rm -rf build/python && \
		$(BIN)/uv venv --quiet --no-python-downloads --python "$$python" build/python && \
		$(PIP) --python build/python/bin/python install --quiet -r requirements/torch.txt && \
		$(PIP) --python build/python/bin/python install --quiet "$$(echo dist/prunec-*.whl)[cpu]" && \
		build/python/bin/python -I release/installed.py || exit 1; \
	done

dist: wheel-test ## All that a release uploads, into dist: sdist, wheel, and beside them what the wheel was checked with, as an SBOM
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible --validate \
		--output-file "dist/$$(basename dist/prunec-*.tar.gz .tar.gz).cdx.json" build/bare/bin/python
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

setup: $(VENV)/.test ## Set up only: prunec, editable, and the tools for its tests

clean: ## Remove what was built, cached or written by the demo
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info examples/plugin/build examples/plugin/*.egg-info
	find prunec passes tests bench docs release examples -name __pycache__ -type d -prune -exec rm -rf {} +

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

$(VENV)/.dist: requirements/dist.txt $(VENV)/.run
	$(PIP) install -r requirements/dist.txt
	@touch $@
