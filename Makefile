# `make quickstart` and `make test` need Python >= 3.11, make and a C++ compiler; they make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests start some 200 processes. If told to write no bytecode, each would compile this package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install quickstart published results check test test-slow test-all test-gpu bench lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'torch>=2.11,<2.14'
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

SWEEP := multirun/quickstart
PUBLISHED := ../shared/data/deg_2_path_5_nodes_50_test_20000.txt

quickstart: install
	@echo "Next-token prediction, its repair, and reversed answers on one small graph; two seeds each, some three minutes."
	$(BIN)/forethought train -m experiment=quickstart objective=next_token,token_order
	$(BIN)/forethought train -m experiment=quickstart task.reverse=true
	$(BIN)/forethought report $(SWEEP)
	@if [ -f $(PUBLISHED) ]; then $(MAKE) --no-print-directory published; fi
	@echo "Done. The report: $(abspath $(SWEEP))/report/report.html"

# Reversed answers on the published file's graphs, with 50 node names; none of its 20,000 graphs is trained on.
published:
	$(BIN)/forethought train experiment=quickstart task.num_nodes=50 task.reverse=true task.test_file=$(PUBLISHED) \
	    hydra.run.dir=outputs/published

results: install # the tables of docs/RESULTS.md and docs/phase_diagram.png, from docs/results/*.csv
	PYTHONPATH=docs $(BIN)/python -m tables

check: install # the inner loop, below forty seconds once mypy has its cache: lint, types, and the contracts of tasks, models and objectives
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not grid" tests/test_rooms.py tests/test_defaults.py tests/test_models.py \
	    tests/test_objectives.py

test: install # all but the slow ones and the grid: five to seven minutes on two cores
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not grid"

test-slow: install # kills, launchers, notebooks, every pair of choices: ten to twenty minutes
	$(BIN)/pytest -n 2 --dist worksteal -m "slow and not grid"

test-all: install
	$(BIN)/pytest -n 2 --dist worksteal -m ""

test-gpu: install # on a machine with a CUDA GPU
	$(BIN)/pytest -n 4 --dist worksteal -vv tests/test_gpu.py tests/test_draw.py

bench: install # each table of docs/PERFORMANCE.md, on an idle machine; `make bench NAMES=peers` for one of them
	$(BIN)/python benchmarks/bench.py --write $(NAMES)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
