# Two commands for a newcomer: `make demo` and `make test`. Both make their own environment first.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# Test processes side by side; the tests of one file stay in one of them.
WORKERS ?= 2

# One thread per process: the sums of a step have one order, and two cores are not fought over.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test venv lint test-slow proto clean help

help:
	@echo "make demo       four synthetic hospitals train SMR-Net; the report lands in runs/demo/"
	@echo "make test       lint, types, import contracts and the test suite"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make lint       ruff, mypy and the import contracts only"
	@echo "make proto      regenerate the gRPC code from client/agent/agent.proto"

venv: $(VENV)/.installed

# The environment is made again when the dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: venv
	$(BIN)/smrfed-sim demo

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: venv lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: venv
	$(BIN)/python -m pytest -m slow

proto: venv
	$(BIN)/python -m client.agent.generate_proto

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
