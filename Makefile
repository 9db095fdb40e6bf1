PYTHON ?= python3
WORK ?= work
VENV := .venv
BIN := $(VENV)/bin
SEARCH := .venv-search
READY := $(VENV)/.ready $(SEARCH)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test check explore chaos bench bench-deid bench-export docs lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## make .venv and .venv-search from the locked, hashed requirements

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv

$(VENV)/.ready: $(VENV)/bin/uv requirements.txt pyproject.toml
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(SEARCH)/.ready: $(VENV)/bin/uv requirements-search.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SEARCH)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(SEARCH)/bin/python --require-hashes -r requirements-search.txt
	@touch $@

run: $(READY) ## the main job: sandbox EHR to registered ONNX model, in ./work
	$(BIN)/fhirloom run --work $(WORK)

test: $(READY) check ## everything: style, types, import rules and all the tests
	$(BIN)/pytest -n auto

check: $(READY) ## the inner loop: style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

explore: $(READY) ## try the laws on examples that no run has tried yet
	$(BIN)/pytest -n auto -m hypothesis --hypothesis-profile exploring

chaos: $(READY) ## kill the export with -9 a hundred times, and demand the same landing zone
	FHIRLOOM_KILLS=100 $(BIN)/pytest -n 0 tests/exports/bulk/test_chaos.py

bench: bench-export bench-deid ## all the benchmarks

bench-export: $(READY) ## the export's time and memory, against a loop that only downloads and unzips
	$(BIN)/python -m tests.bench.export

bench-deid: $(READY) ## de-identification's time and memory, against DuckDB reading the same columns
	$(BIN)/python -m tests.bench.deid

docs: $(READY) ## write the pages that are made from tables
	$(BIN)/python -m exports.sandbox.handbook > docs/servers.md

lock: $(VENV)/bin/uv ## compile both requirements files again from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --group dev pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --group pyproject.toml:search -o requirements-search.txt

clean: ## remove the environment and the work folder
	rm -rf $(VENV) $(SEARCH) $(WORK)
