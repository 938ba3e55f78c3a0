# Every target sets up what it needs: a stranger runs `make demo` or `make test` on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all check bench docs schema clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/voxloom demo --output demo-output

# Two processes: most tests use one core. Coverage, which makes Python code take 1.8 times as long, is for test-all.
test: $(STAMP)
	$(BIN)/python -m pytest -q $(PARALLEL) -m 'not slow'

test-all: $(STAMP)
	$(BIN)/python -m pytest -q $(PARALLEL) --cov --cov-report=term:skip-covered

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, into build/docs. Notebooks run when they have changed; a warning is an error; nothing is fetched.
docs: schema
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/measured/make_parity.py
	$(BIN)/python docs/measured/make_benchmarks.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs build/docs

schema: $(STAMP)
	$(BIN)/voxloom schema > src/voxloom/analysis.schema.json.new
	mv src/voxloom/analysis.schema.json.new src/voxloom/analysis.schema.json

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
