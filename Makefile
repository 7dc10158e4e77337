# Everything runs in a virtual environment of its own, made on first use; only Python >= 3.11 is needed.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# What the experiments need, and what the tests need besides.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready

# Flags of experiments.ablations; those that come last win.
ABLATIONS ?= --all

# Further arguments of `make test`.
PYTEST_FLAGS ?=

.PHONY: demo ablations test test-slow coverage lint clean

demo: $(RUNS)  ## train and evaluate on the embedded synthetic data, about a minute
	rm -rf runs/demo
	$(RUN) -m experiments.thumos --flagfile=experiments/flags/demo.flags --workdir=runs/demo

ablations: $(RUNS)  ## the paper's tables and figures on the synthetic data set, about 20 minutes; goes on if interrupted
	$(RUN) -m experiments.ablations --flagfile=experiments/flags/ablations.flags --workdir=runs/ablations $(ABLATIONS)

test: $(READY)  ## the fast test suite
	$(RUN) -m pytest $(PYTEST_FLAGS)

test-slow: $(READY)  ## also whole training runs
	$(RUN) -m pytest -m "slow or not slow"

# Programs run as processes of their own, whose lines do not count; so their tests can be left out.
coverage: $(READY)  ## the lines of case_jax that the fast tests do not reach, named
	$(RUN) -m pytest -n 0 --cov=case_jax --cov-report=term-missing:skip-covered \
	  --ignore=tests/experiments --ignore=tests/benchmarks --ignore=tests/test_readme.py

lint: $(READY)  ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) build *.egg-info runs

$(RUNS): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: PYTHON=$(PYTHON): is older than 3.11; expected Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[plots,host,hdf5]'
	touch $@

$(READY): $(RUNS)
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@
