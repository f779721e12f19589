# Targets for people: demo, test, check, bench. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo need test check bench lint types faults mutation fuzz plots requirements clean setup

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: install the package python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Plays the whole story on loopback; says first what is missing.
demo: need setup
	@examples/demo.sh

need:
	@for program in curl openssl awk; do command -v $$program >/dev/null || { echo "$$program is missing: install the package $$program"; exit 1; }; done
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install the package python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: install the package python3-venv"; exit 1; }

test: setup
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy .

check: lint types test

# Every single system call failing, every bit flipped, the power lost at every moment: five minutes. Needs strace.
faults: setup
	@command -v strace >/dev/null || { echo "strace is missing: install the package strace"; exit 1; }
	@printf 'tests/ledger/test_%s.py\n' faults power_loss attacks | CONTRAST_EXHAUSTIVE=1 xargs -P 2 -n 1 $(BIN)/python -m pytest -q -p no:cacheprovider

# Every bit of reports, certificates, lists and quotes changed in turn: ten minutes.
mutation: setup
	@printf '%s\n' 'quote' 'not quote' | CONTRAST_EXHAUSTIVE=1 xargs -P 2 -I {} $(BIN)/python -m pytest -q -p no:cacheprovider tests/attestation/test_mutations.py -k {}

FUZZ_VENV := build/fuzz-venv
FUZZ_SECONDS ?= 60

# Every reader of strangers' bytes under atheris, FUZZ_SECONDS each and two at a time, in an environment of its own.
fuzz: setup $(FUZZ_VENV)/.ready
	@grep -l 'main("' tests/fuzz/*.py | xargs -n 1 basename -s .py | FUZZ_SECONDS=$(FUZZ_SECONDS) xargs -P 2 -I {} sh -c \
	  '$(FUZZ_VENV)/bin/python -m tests.fuzz.{} 2>build/fuzz-{}.log || { echo "== {}"; tail -40 build/fuzz-{}.log; exit 255; }; echo "{}: $$(tail -1 build/fuzz-{}.log)"'

$(FUZZ_VENV)/.ready: requirements/fuzz.txt requirements/dev.txt
	@$(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(FUZZ_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	@touch $@

# Audit time and append latency against the size of the ledger, as docs/images/*.svg; measures the sizes if need be.
plots: setup
	@$(BIN)/python -m benchmarks.plots

bench: setup
	$(BIN)/python -m benchmarks

# Needs the program uv; pins every requirement with hashes and names no index.
requirements:
	for f in initializer coordinator cli dev fuzz peers; do \
	  uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-emit-index-url requirements/$$f.in \
	    -o requirements/$$f.txt --custom-compile-command "make requirements"; done

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
