# Needs make and one Python, 3.11 to 3.13; every target sets up .venv by itself when pyproject.toml, the pinned versions or
# the choice of Python changed.
#     make test                                                             newest Python found, newest pinned versions
#     make test PYTHON=python3.11 CONSTRAINTS=constraints-oldest.txt        oldest versions
# VENV=... keeps a second environment next to the first.

# Newest first, each tried before it is chosen: a shim of pyenv exists for versions that cannot start, and Debian splits
# venv from Python.
VERSIONS := 3.13 3.12 3.11
INSTALLED := $(foreach v,$(VERSIONS),python$(v) $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(v).*/bin/python)) python3
STARTS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in $(INSTALLED); do "$$p" -c '$(STARTS)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
endif
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# The newest JAX needs Python 3.12.
CONSTRAINTS ?= $(if $(filter 3.11,$(VERSION)),constraints-oldest.txt,constraints.txt)

JOBS ?= 2
VENV ?= .venv
ENGINES ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(VERSION)-$(basename $(notdir $(CONSTRAINTS)))
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check slow parity parity-llm bench format setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(STAMP) ## train PPO-Lag on SafetyPointGoal1-v0, four seeds, about five minutes, and write runs/demo/report.html
	$(BIN)/jsafe demo --run-dir runs/demo $(ARGS)

test: $(STAMP) ## run the tests, without those marked slow
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

slow: $(STAMP) ## run the tests marked slow (a long time)
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP) ## lint, format, types, import contracts and English, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m tests.project.banned_phrases

format: $(STAMP) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

parity: $(STAMP) ## replay the recordings of the reference environments and print the largest errors; ENGINES="VENV ..." adds columns
	$(BIN)/python -m tests.parity $(if $(ENGINES),$(addprefix --engine ,$(VENV) $(ENGINES))) $(ARGS)

parity-llm: $(STAMP) ## compare logits with transformers' PyTorch model, where torch is installed
	$(BIN)/python -m tests.parity.llm $(ARGS)

bench: $(STAMP) ## measure throughput relative to its floor, and training speed
	$(BIN)/jsafe bench $(ARGS)

setup: $(STAMP) ## create .venv with the pinned versions and the package in editable mode

# The stamp names the choice and is written last. An interrupted install is resumed; another choice starts from an empty
# environment, because versions of the former one would stay behind.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 (with venv) is required, and none was found. Install one or set PYTHON=..." >&2; exit 1; }
	@test -n "$(VERSION)" || { echo "$(PYTHON) does not start. Install that Python, or choose another with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is required, $(PYTHON) is {sys.version.split()[0]}. Choose another with make PYTHON=...")'
	@echo "setting up $(VENV) with $(PYTHON) (Python $(VERSION)) and $(CONSTRAINTS): about 1.8 GB, a minute or two"
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/pyvenv.cfg ]; then echo "$(VENV) is not a virtual environment; choose another VENV" >&2; exit 1; fi
	@if [ -e $(VENV) ] && [ "$$(cat $(VENV)/.choice 2>/dev/null)" != "$(notdir $(STAMP))" ]; then rm -rf $(VENV); fi
	$(PYTHON) -m venv $(VENV)
	@echo "$(notdir $(STAMP))" > $(VENV)/.choice
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $(STAMP)

clean: ## remove .venv, caches and build outputs (not runs/)
	@if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then echo "$(VENV) is not a virtual environment and stays; choose another VENV" >&2; exit 1; fi
	rm -rf "$(VENV)" .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
