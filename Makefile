# One command a duty; each makes the virtual environment it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow check bench models clean

demo: $(READY)  ## make scenes, a bank, retrievals and demo/report.html
	$(BIN)/zeuxis demo --out demo

test: $(READY)  ## the tests, one thread each beside one another; those marked slow and gpu are left out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

slow: $(READY)  ## the slow tests
	$(BIN)/python -m pytest -m slow

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## every figure of docs/benchmarks.md; DATA=path to the folder with nyu/ and camvid/
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

models: $(READY)  ## the networks that the demo paints with, trained anew in models/; half an hour on two cores
	$(BIN)/python -m zeuxis.pipelines.demo_models models

clean:  ## what the commands above have made, the environment included
	rm -rf $(VENV) demo models build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,dev]"
	touch $(READY)
