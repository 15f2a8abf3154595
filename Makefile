# The developer interface. Every target sets itself up: all it takes is make and Python 3.11+.

PYTHON ?= python3
ARGS ?=
# What prints VARIABLE=URL for each server there is; with Docker, SERVERS="cat compose.env".
SERVERS ?= $(PYTHON) scripts/services status --env

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPED := $(wildcard src/edow examples tests/typing scripts/servers scripts/failures)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all services check bench bench-transports bench-peers matrix failures format clean

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is handed on to demo, test, test-all, services and bench; PYTHON=python3.12 picks the interpreter.'

demo: $(READY) ## Run a workflow on this machine, no server needed
	$(BIN)/edow demo --scripted $(ARGS)

test: $(READY) ## Run the tests, with every server that is up
	@servers=$$($(SERVERS)) && set -a && eval "$$servers" && set +a && \
		exec $(BIN)/python -m pytest -n 2 --dist=worksteal $(ARGS)

test-all: $(READY) ## Start all servers, and run all tests
	$(PYTHON) scripts/services up
	$(PYTHON) scripts/browser
	@EDOW_REQUIRE_SERVERS=1 $(MAKE) --no-print-directory test

services: ## Install and start the servers (ARGS="redis nats": these)
	@$(PYTHON) scripts/services up $(ARGS)

check: $(READY) ## Lint, formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy $(TYPED)
	$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(READY) ## Measure this machine
	$(BIN)/edow bench $(ARGS)

bench-transports: $(READY) ## Measure every transport, and write docs/performance.md
	$(PYTHON) scripts/services up
	@servers=$$($(SERVERS)) && set -a && eval "$$servers" && set +a && \
		$(BIN)/python benchmarks/transports.py --write $(ARGS)

bench-peers: $(READY) ## Measure EDOW beside Temporal, DBOS, Restate (needs npm), Celery and taskiq
	$(PYTHON) scripts/services up postgres redis
	@servers=$$($(SERVERS)) && set -a && eval "$$servers" && set +a && \
		exec $(BIN)/python benchmarks/peers/run.py $(ARGS)

matrix: $(READY) ## Prove what each transport guarantees, and write docs/matrix.md
	$(PYTHON) scripts/services up
	@servers=$$($(SERVERS)) && set -a && eval "$$servers" && set +a && \
		EDOW_REQUIRE_SERVERS=1 $(BIN)/python -m pytest -q -n 2 --dist=worksteal tests/conformance --matrix docs/matrix.md

failures: $(READY) ## Break processes and servers under 10,000 executions, and count every effect
	$(PYTHON) scripts/services up postgres redis nats rabbitmq kafka
	$(BIN)/python -m scripts.failures --write docs/failures.md $(ARGS)

format: $(READY) ## Format, and fix what can be fixed safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, caches and built files
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again only when the lock or the project's own metadata changes.
$(READY): requirements/dev.txt requirements/openapi.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo 'error: "$(PYTHON)" was not found; EDOW needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: EDOW needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/openapi -r requirements/openapi.txt
	@touch $@
