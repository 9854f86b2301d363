# Everything runs in .venv, which init_shared_db.py sets up and keeps up to date. Works with GNU Make 3.81.

PYTHON ?= python3
ARGS ?=
SET_UP = $(PYTHON) init_shared_db.py --set-up
BIN = .venv/bin

.PHONY: help init test bench bench-migrations bench-sqlite bench-reliability bench-pools bench-endpoints bench-observe lint format check-format check-style check-types check-floors set-up-test set-up-lint set-up-servers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile
	@echo "Options: ARGS='...' for init, test and the benchmarks, PYTHON=python3.12 for the Python that .venv is made with."

init: ## Set up, and create the shared database (SQLite, opal_suite.db, unless configured otherwise)
	$(PYTHON) init_shared_db.py $(ARGS)

test: set-up-test set-up-servers ## Set up, and run all tests and the examples in the docstrings
	$(BIN)/python -m pytest -n auto --doctest-modules opal_registry tests $(ARGS)

bench: set-up-test ## Set up, and compare opal-db init with everybody else's way; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

bench-migrations: set-up-test ## Set up, and compare opal-db upgrade with Alembic and Django; writes docs/benchmarks-migrations.md
	$(BIN)/python -m benchmarks.migrations $(ARGS)

bench-sqlite: set-up-test ## Set up, and compare ways for processes to share a SQLite file; writes docs/benchmarks-sqlite.md
	$(BIN)/python -m benchmarks.writers $(ARGS)

bench-reliability: set-up-test ## Set up, let PostgreSQL fail under load, and count what is lost; writes docs/benchmarks-reliability.md
	$(BIN)/python -m benchmarks.reliability $(ARGS)

bench-pools: set-up-test ## Set up, and compare ways of testing the connections of a busy pool; writes docs/benchmarks-pools.md
	$(BIN)/python -m benchmarks.pools $(ARGS)

bench-endpoints: set-up-test ## Set up, and compare what sessions cost a web application; writes docs/benchmarks-endpoints.md
	$(BIN)/python -m benchmarks.endpoints $(ARGS)

bench-observe: set-up-test ## Set up, and compare what it costs to be observed; writes docs/benchmarks-observe.md
	$(BIN)/python -m benchmarks.observe $(ARGS)

lint: check-format check-style check-types check-floors ## Set up, and check formatting, style, types and import floors

format: set-up-lint ## Format the code, and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

check-format: set-up-lint
	$(BIN)/ruff format --check

check-style: set-up-lint
	$(BIN)/ruff check

check-types: set-up-lint
	$(BIN)/mypy opal_registry tests benchmarks $(wildcard plugins/*)

check-floors: set-up-lint
	$(BIN)/lint-imports

set-up-test:
	@$(SET_UP) test

set-up-lint:
	@$(SET_UP) lint test

set-up-servers:
	@sh tests/install_servers.sh

clean: ## Remove .venv and what the tools leave behind; databases stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
