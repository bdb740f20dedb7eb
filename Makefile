# One-word entry points. Each target makes or updates .venv first, which costs a few milliseconds
# when nothing has changed (tools/setup_env.sh).

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help env setup demo launch serve test test-all check prove bench clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env:
	@tools/setup_env.sh

setup: env ## make or update .venv (a few minutes the first time)
	@echo ".venv is current"

demo: env ## serve the demo model, overload it, watch it refuse and recover (3 minutes)
	@mkdir -p runs
	$(BIN)/forebay demo examples/demo.yaml --output runs/demo.html

launch: env ## offer a launch to an emulated fleet and watch it scale (6 minutes)
	$(BIN)/forebay demo examples/launch/service.yaml --workload examples/launch/workload.yaml \
		--output runs/launch

serve: env ## serve the demo model on port 8000 until Ctrl-C
	$(BIN)/forebay serve examples/demo.yaml

# Two workers share the tests, so that two cores are busy; all that start Ray go to one of them, last
# (tests/conftest.py). In the quick run, properties are tried on a few examples each.
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations=15

test: env ## run the tests that every change needs (10 minutes)
	HYPOTHESIS_PROFILE=quick $(PYTEST) -m "not slow"

test-all: env ## run all tests: long faults and whole days, too (25 minutes)
	$(PYTEST)

check: env ## lint, format, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

prove: env ## measure what is promised (20 minutes); AGAINST=commit: which figures differ from its
	$(BIN)/python benchmarks/prove.py $(if $(AGAINST),--against $(AGAINST))

bench: env ## run the benchmarks; needs a quiet machine
	$(BIN)/python benchmarks/run_all.py

clean: ## remove caches, build output and runs/
	rm -rf build dist runs src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	rm -rf .venv
