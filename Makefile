# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo

# Packages are not compiled when they are installed, but where they are imported, and once: without this, an environment
# that says to keep nothing has each process that a test starts compile all of torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check setup-demo setup-test setup-dev wheel clean

demo: setup-demo ## run the main job on the embedded data set; leaves a report to open
	$(BIN)/coterie fit --config examples/demo.yaml --out $(RUN) --anyway
	@echo "Open $(abspath $(RUN))/report.html in a browser."

# Files of tests side by side. One thread each, since threads of several processes on the same cores wait for each other;
# one process more than there are cores, since a third of the time a test waits for what it started.
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))
test: setup-test ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup-dev ## ruff, types (strict in src, loose around it), the import contract, dead links in docs
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_links.py

wheel: setup-dev ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

clean:
	rm -rf .venv runs dist

setup-demo: .venv/.demo
setup-test: .venv/.test
setup-dev: .venv/.dev

.venv/.demo: EXTRA :=
.venv/.test: EXTRA := [test]
.venv/.dev: EXTRA := [dev]
.venv/.dev: ALSO := .venv/.test # dev has what test has
.venv/.demo .venv/.test .venv/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.$(EXTRA)'
	touch $@ $(ALSO)
