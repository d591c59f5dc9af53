PYTHON ?= python3
# The versions that the tests pass with; `make install CONSTRAINTS=` takes the newest instead.
CONSTRAINTS ?= -c .ci/constraints.txt
BIN := .venv/bin
# Two at a time: a test that starts Ray waits for half of its time. The tests of a file share what
# they are about, and stay in one process; files with little to do come last, as they are called.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
BENCHMARKS := frozen_search train_speed search_quality noisy_search overhead review prepare_speed early_looks recipe time_to_accuracy backbones dogs_ladder long_and_large

.PHONY: install run test test-all test-lowest lint bench soak audit clean

install: .venv/.installed

.venv/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e ".[dev]"
	touch $@

run: install
	$(BIN)/resnet-tune run digits

# What a newcomer waits for: at most six minutes on two quiet cores.
test: install
	$(PYTEST) -m "not soak and not slow"

# Every test but the soak, at most fifteen minutes on the same: what CI runs.
test-all: install
	$(PYTEST) -m "not soak" --durations=20

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The quick tests with the lowest versions that pyproject.toml declares; PYTHON may be 3.10.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	sed -n '/^dependencies/,/^]/s/^ *"\([A-Za-z0-9-]*\)[^>]*>=\(.*\)",/\1==\2/p' pyproject.toml > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet -c .venv-lowest/lowest.txt -e .
	.venv-lowest/bin/python -m pip install --quiet -e ".[dev]"
	.venv-lowest/bin/python -m pytest -m "not soak and not slow" -o filterwarnings=default

bench: install
	for name in $(BENCHMARKS); do $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

soak: install
	$(BIN)/python -m pytest -m soak

# Known weaknesses of what is installed. A package index that passes no such data on leaves packages
# unaudited, which is an error here and no all-clear.
audit: install
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet pip-audit
	.venv/audit/bin/pip-audit --strict --progress-spinner off --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		|| { echo "pip-audit found something, or could not ask: CONTRIBUTING.md says why each dependency is there"; exit 1; }

clean:
	rm -rf .venv .venv-lowest build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
