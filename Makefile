# make demo: build the example recipe and say how to talk to the result.
# make test: run the tests. Both create .venv by themselves and are quick when it exists.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# pip would compile every module, which is half its time; here each is when it is first imported.
INSTALL := -m pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench mutants format clean

demo: $(VENV)/.demo
	$(BIN)/llmwright build examples/handbook/llmwright.toml

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Small mistakes, made one at a time: do the tests notice? Twelve rooms, one to two hours.
mutants: $(VENV)/.dev
	$(BIN)/python benchmarks/mutation.py --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers live in an environment of their own, so that they never decide what we depend on.
bench: .venv-bench/.ready
	.venv-bench/bin/python benchmarks/retrieval.py --check
	.venv-bench/bin/python benchmarks/gateway.py --check
	.venv-bench/bin/python benchmarks/engine.py --check
	.venv-bench/bin/python benchmarks/speculation.py --check
	.venv-bench/bin/python benchmarks/quantization.py --check
	.venv-bench/bin/python benchmarks/gguf_roundtrip.py --check
	.venv-bench/bin/python benchmarks/context.py --check

# PyTorch goes first and alone: its CPU build is what plain pip should find, and the packages
# after it accept what is there.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "LLMwright needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch into $(VENV) (a minute or two)"
	$(BIN)/python $(INSTALL) torch==2.13.0
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "installing LLMwright and what it needs (a minute or two)"
	$(BIN)/python $(INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "installing LLMwright and what it needs (a minute or two)"
	$(BIN)/python $(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.demo

.venv-bench/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(INSTALL) torch==2.13.0
	.venv-bench/bin/python $(INSTALL) -e '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-bench examples/*/release examples/*/.llmwright
