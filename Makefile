# Two commands are all a newcomer needs: `make run` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help run local compiled test test-unit test-contract test-integration test-simulation test-fuzz bench results check format lock schema venv dev tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-18s %s\n", $$1, $$2}'

run: venv ## start the gateway on its embedded default (emulated fleet); CONFIG=file.yaml for your own
	@$(BIN)/turnout serve $(if $(CONFIG),--config $(CONFIG))

local: venv ## a real small model on this CPU: install, measure, serve (LOCAL=file.yaml for the configuration)
	@deploy/bootstrap/local.sh
	@test -e $(or $(LOCAL),local.yaml) || $(BIN)/turnout local --write $(or $(LOCAL),local.yaml)
	@echo "try: curl -s localhost:8080/v1/chat/completions -d '{\"model\":\"smollm2-135m\",\"messages\":[{\"role\":\"user\",\"content\":\"Write one sentence about trains.\"}]}'"
	@$(BIN)/turnout serve --config $(or $(LOCAL),local.yaml)

test: dev tools check ## set everything up and run every check and test
	@$(PYTEST)

test-unit: dev ## pure code only: no I/O
	@$(PYTEST) tests/unit

test-contract: dev tools ## one suite over every implementation; official clients against a real server
	@$(PYTEST) tests/contract

test-integration: dev tools ## real Redis and Valkey, real uvicorn, deploy files with their own linters
	@$(PYTEST) tests/integration

test-simulation: dev ## emulated fleets in virtual time
	@$(PYTEST) tests/simulation

test-fuzz: dev ## hypothesis against loaders and wire formats
	@$(PYTEST) tests/fuzz

bench: dev ## print what a decision, a request and a record cost (no asserts)
	@$(BIN)/python -m tests.benchmark

compiled: dev ## the same with its hot modules compiled, in .venv-compiled: replays and decisions at twice the speed
	@deploy/bootstrap/compiled.sh

results: dev ## play every policy on every trace there is (resumable; emulated)
	@$(BIN)/python -m tests.benchmark.evaluation $(ARGS)

check: dev ## lint, types, layering
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: dev ## rewrite the code in the house style
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

schema: dev ## regenerate the published JSON Schema of the configuration
	@$(BIN)/turnout schema > config/schema.json

lock: ## resolve dependencies anew (needs uv on PATH)
	@deploy/bootstrap/lock.sh

venv:
	@deploy/bootstrap/venv.sh runtime

dev:
	@deploy/bootstrap/venv.sh dev

tools:
	@deploy/bootstrap/tools.sh
	@deploy/bootstrap/clients.sh
	@deploy/bootstrap/local.sh
