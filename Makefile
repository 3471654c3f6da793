# `make` lists the targets. Environments are made on first use and updated when what they are built from changes.
PYTHON ?= python3
BIN := .venv/bin
BUILD := pyproject.toml setup.py scripts/setup_env.py $(wildcard asr/decoder/*.cpp asr/decoder/*.hpp)

.PHONY: help demo env test lint rules layout types format wheel-check bench-check bench-env clean
.DEFAULT_GOAL := help

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: .venv-runtime/.ready   ## transcribe the example recordings, with the runtime dependencies only
	.venv-runtime/bin/asr transcribe examples/*.flac

env: .venv/.ready            ## make the development environment

test: .venv/.ready           ## run all tests
	$(BIN)/python -m pytest

lint: rules layout types     ## ruff and mypy

rules: .venv/.ready
	$(BIN)/ruff check .

layout: .venv/.ready
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/mypy --strict

format: .venv/.ready         ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-check: .venv/.ready    ## build the wheel, install it in an empty environment, transcribe with it
	$(BIN)/python scripts/check_wheel.py

bench-check: .venv/.ready    ## compare what the engine costs with the committed sheet, by ratios
	$(BIN)/python -m benchmarks.cli check --sheet benchmarks/results/device.json --no-peers

bench-env:                   ## add the recognisers that asr-bench compares with
	$(PYTHON) scripts/setup_env.py bench

clean:                       ## remove environments and build outputs
	rm -rf .venv .venv-runtime build dist *.egg-info

.venv-runtime/.ready: $(BUILD)
	$(PYTHON) scripts/setup_env.py runtime
	@touch $@

.venv/.ready: $(BUILD) scripts/install_torchaudio.py
	$(PYTHON) scripts/setup_env.py dev
	@touch $@
