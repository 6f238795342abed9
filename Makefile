# Needs make and Python 3.11; every target sets up .venv by itself when pyproject.toml or constraints.txt changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check slow parity parity-llm bench format setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP) ## train PPO-Lag on SafetyPointGoal1-v0, four seeds, about five minutes, and write runs/demo/report.html
	$(BIN)/jsafe demo --run-dir runs/demo $(ARGS)

test: $(STAMP) ## run the tests, without those marked slow
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

slow: $(STAMP) ## run the tests marked slow (a long time)
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP) ## lint, format, types and import arrows, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

parity: $(STAMP) ## replay the recordings of the reference environments and print the largest errors
	$(BIN)/python -m tests.parity $(ARGS)

parity-llm: $(STAMP) ## compare logits with transformers' PyTorch model, where torch is installed
	$(BIN)/python -m tests.parity.llm $(ARGS)

bench: $(STAMP) ## measure throughput beside its floor, and training speed
	$(BIN)/jsafe bench $(ARGS)

setup: $(STAMP) ## create .venv with the pinned versions and the package in editable mode

# The stamp is written last, so an interrupted install is taken up again; what is already there is kept.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed and neither python3.11 nor python3 was found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}; say which with make PYTHON=...")'
	@echo "setting up $(VENV) with $(PYTHON): about 1.8 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean: ## remove .venv, caches and build outputs (not runs/)
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
