# make demo: the whole workflow on a simulated archive, from nothing but Python and make.  make test: all checks.
# make docs: the documentation, into site/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
STAMP := $(VENV)/.installed

.PHONY: install demo test compat benchmark lint docs clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: install
	$(BIN)/python -m spxflow.demo run --scenario demo -- $(BIN)/snakemake --cores 2 --configfile config/demo.yaml --config archive='{url: {archive_url}}' outdir=$(DEMO)
	@echo "results: $(DEMO)/cloverleaf/results"

test: install lint
	$(BIN)/python -m pytest -n 2

# oldest and newest dependencies, each Python that is here
compat:
	tests/compat/run

# PEER=path/to/python/with/spxquery compares with SPXQuery 0.4.1 as well
benchmark: install
	$(BIN)/python tests/benchmarks/bench_photometry.py $(if $(PEER),--peer-python $(PEER))
	$(BIN)/python tests/benchmarks/bench_workflow.py $(if $(PEER),--peer-python $(PEER))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo site .snakemake
