# One word for each thing that people do here; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# Tests wait about as much as they compute. Above eight workers the longest folder of tests is what takes the time.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 4 ? 2 * cores : 8)))
# The programs are started hundreds of times: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE
TESTS ?= tests/unit tests/contract tests/integration tests/e2e
RIGHTS ?= tests/unit/sandbox tests/integration/sandbox
TIMES ?= 10
PYTEST = $(PYTHON) -m pytest -n $(WORKERS) --dist loadgroup -q --durations=15 --durations-min=10

.PHONY: help setup check test test-again test-unit test-contract test-slow demo sandbox bench bench-packager clean clean-cache toolchain

help: ## Say what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(UV):
	@bash scripts/get-uv.sh "$(dir $(UV))"

$(VENV)/.complete: $(UV) pyproject.toml uv.lock
	@echo "==> Python packages, as uv.lock says"
	@$(UV) sync --frozen --all-extras --compile-bytecode --quiet
	@touch $@

setup: $(VENV)/.complete ## Install the Python packages into .venv

toolchain: setup ## Build etcd, kube-apiserver, kube-controller-manager and helm once, into the user's cache
	@$(PYTHON) -m sandbox.toolchain

check: setup toolchain ## Lint, types, import contracts, shell scripts, chart, generated files
	@bash scripts/check.sh

test: check ## Everything that must hold before a change lands
	@$(PYTHON) -m sandbox.toolchain --s3 --quiet
	@$(PYTEST) $(TESTS) -m "not slow"
	@if [ "$$(id -u)" = 0 ]; then \
	  echo "==> the same as an unprivileged user, where it depends on rights"; \
	  $(PYTHON) -m tests.support.unprivileged $(PYTEST) -p no:cacheprovider $(RIGHTS) -m "rights and not slow"; \
	fi

test-again: toolchain ## Tests again and again: TIMES=10 TESTS=tests/…; says which differed
	@$(PYTHON) -m sandbox.toolchain --s3 --quiet
	@$(PYTHON) -m tests.support.again --times $(TIMES) -- $(PYTEST) $(TESTS) -m "not slow"

test-unit: toolchain ## The tests that need no cluster
	@$(PYTHON) -m pytest tests/unit -n $(WORKERS) -q

test-contract: setup ## The simulator and the client against Benchling's own contract
	@$(PYTHON) -m pytest tests/contract -q

test-slow: toolchain ## Fuzzing, every point of kills and faults, growth
	@$(PYTHON) -m sandbox.toolchain --s3 --quiet
	@$(PYTHON) -m pytest tests --ignore tests/performance -n $(WORKERS) --dist loadgroup -m slow -q --durations=10
	@$(PYTHON) -m pytest tests/performance -m slow -q -s

demo: toolchain ## Show the product at work on real parts
	@exec $(PYTHON) -m sandbox demo

sandbox: toolchain ## Keep the product running here and say what to type
	@exec $(PYTHON) -m sandbox up

bench: setup ## The controller's and the client's benchmarks
	@$(PYTHON) -m pytest tests/performance -q -s

bench-packager: setup ## The packager beside the plain way; fails when a bar is missed
	@$(PYTHON) -m sandbox.toolchain --s3
	@$(PYTHON) -m tests.performance.bench_packager

clean: ## Remove what was made in this folder
	@rm -rf $(VENV) .uv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: ## Remove the programs that were built into the user's cache, and say how much that was
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m sandbox.toolchain clean; else echo "Run make setup first."; fi
