# Everything is run from a virtual environment that this file builds: python3 and make are all it needs.
#   make test    lint, types and tests          make demo    the photograph
#   make help    the other targets

PYTHON ?= python3
# Processes that share the tests; "make WORKERS=0 test" has them run in one.
WORKERS ?= auto
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST  = $(BIN)/pytest -q --numprocesses $(WORKERS) --dist worksteal
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Whatever takes long is run by this: it prints a line every five seconds.
SAYING := $(PYTHON) tools/patiently.py

# torch is installed first and alone, at the version that pyproject.toml pins, so that nothing resolves another one.
TORCH  := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

TORCH_STAMP := $(VENV)/.stamp-torch
DEMO_STAMP  := $(VENV)/.stamp-demo
DEV_STAMP   := $(VENV)/.stamp-dev
DOCS_STAMP  := $(VENV)/.stamp-docs
PEERS       := .venv-keops
PEERS_STAMP := $(PEERS)/.stamp

.PHONY: help test test-all test-gpu bench-gpu lint types format demo docs bench bench-peers compare-keops keops-names clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make test         lint, types and the tests, without the slow ones"
	@echo "make test-all     the same with the slow tests"
	@echo "make test-gpu     the tests that need a GPU; bench-gpu: its figures (both say so where there is none)"
	@echo "make demo         the photograph: colours, density, a gradient step; pictures go to demo-output/"
	@echo "make bench        the benchmark suite (make bench-peers first: PyKeOps, in an environment of its own)"
	@echo "make compare-keops  programs in PyKeOps' words, run by PyKeOps and by the drop-in, and compared"
	@echo "make keops-names  the names, signatures and keywords of PyKeOps, which the tests compare with the drop-in's"
	@echo "make docs         the manual, in docs/_build/html"
	@echo "make format       rewrite the sources in the house layout"
	@echo "make clean        remove what the tools leave behind (distclean: the environments too)"

# ------------------------------------------------------------------ environments
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Pairfuse needs Python 3.10 or later; say for example: make PYTHON=python3.12 test")'
	@$(SAYING) "A Python environment in $(VENV)" $(PYTHON) -m venv $(VENV)

$(TORCH_STAMP): pyproject.toml | $(BIN)/python
	@$(SAYING) "$(TORCH), for the tests" $(PIP) install $(TORCH)
	@touch $@

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@$(SAYING) "Pairfuse, with what the demo needs: NumPy, llvmlite, scikit-learn, Pillow" $(PIP) install --no-compile --editable '.[demo]'
	@touch $@

$(DEV_STAMP): pyproject.toml $(TORCH_STAMP)
	@$(SAYING) "Pairfuse, with what its tests need" $(PIP) install --editable '.[demo,dev]'
	@touch $@ $(DEMO_STAMP)

$(DOCS_STAMP): pyproject.toml $(DEMO_STAMP)
	@$(SAYING) "What the manual needs" $(PIP) install --editable '.[docs]'
	@touch $@

$(PEERS_STAMP):
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet pykeops==2.3 scipy
	@touch $@

# ------------------------------------------------------------------ checks (pytest last: its summary ends the output)
lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

# Whether Triton interprets or compiles is chosen when it is first imported, so these tests have processes of their own.
test: lint types
	TRITON_INTERPRET=1 $(PYTEST) -m "not slow" tests/test_triton_*.py
	TRITON_INTERPRET=0 $(PYTEST) -m "not slow" tests/test_ptx_*.py
	$(PYTEST) -m "not slow" --ignore-glob='tests/test_triton_*.py' --ignore-glob='tests/test_ptx_*.py'

test-all: lint types
	TRITON_INTERPRET=1 $(PYTEST) tests/test_triton_*.py
	TRITON_INTERPRET=0 $(PYTEST) tests/test_ptx_*.py
	$(PYTEST) --ignore-glob='tests/test_triton_*.py' --ignore-glob='tests/test_ptx_*.py'

test-gpu: $(DEV_STAMP)
	TRITON_INTERPRET=0 $(BIN)/pytest -q -rs -m "not slow" tests/gpu

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ------------------------------------------------------------------ what it does, how fast, and the manual
demo: $(DEMO_STAMP)
	$(BIN)/python -m pairfuse demo

bench-peers: $(PEERS_STAMP)

compare-keops: $(DEV_STAMP) $(PEERS_STAMP)
	$(BIN)/python tools/compare_with_keops.py

# What the drop-in has to have, as facts; the result is kept in the repository.
keops-names: $(PEERS_STAMP)
	$(PEERS)/bin/python tools/compare_names_with_keops.py src/pairfuse/dropin/names.json

bench: $(DEV_STAMP)
	$(BIN)/python -m pairfuse bench

bench-gpu: $(DEV_STAMP)
	TRITON_INTERPRET=0 $(BIN)/python -m benchmarks.gpu

docs: $(DOCS_STAMP)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf build dist demo-output docs/_build docs/_generated .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(PEERS)
