# Everything runs in a virtual environment of its own, made on first use; only Python >= 3.11 is needed.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Marks of what is installed: what the commands need, what the tests need besides, what a release needs.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
RELEASE := $(VENV)/.release

# Flags of experiments.ablations; those that come last win.
ABLATIONS ?= --all

# Further arguments of `make test` and `make test-slow`.
PYTEST_FLAGS ?=

.PHONY: help demo ablations test test-slow coverage lint package clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: $(RUNS)  ## train and evaluate on the embedded synthetic data, about a minute
	rm -rf runs/demo
	$(RUN) -m experiments.thumos --flagfile=experiments/flags/demo.flags --workdir=runs/demo

ablations: $(RUNS)  ## the paper's tables and figures on the synthetic data set, about 20 minutes; goes on if interrupted
	$(RUN) -m experiments.ablations --flagfile=experiments/flags/ablations.flags --workdir=runs/ablations $(ABLATIONS)

# A fifth of the time, or more, is saved where XLA optimises less. Long tests that are marked `optimised` see programs
# as users have them: golden numbers to their last digits, the network for videos, which computes for long, and
# trainings on very short videos (equal activations are not always equal where XLA optimises less).
# (pytest ends with status 5 where PYTEST_FLAGS name no such test.) Many long tests wait for processes, so that three
# workers keep two cores busy.
QUICKLY := XLA_FLAGS="--xla_backend_optimization_level=0 $$XLA_FLAGS"

# Hundreds of processes import the package: its bytecode is kept, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

test: $(READY)  ## the fast tests, about five minutes on two cores
	$(QUICKLY) $(RUN) -m pytest $(PYTEST_FLAGS)

test-slow: $(READY)  ## the tests that take long: whole training runs, thousands of cases, several processes
	$(QUICKLY) $(RUN) -m pytest -n 3 -m "slow and not optimised" $(PYTEST_FLAGS) || [ $$? = 5 ]
	$(RUN) -m pytest -m "slow and optimised" $(PYTEST_FLAGS) || [ $$? = 5 ]

coverage: $(READY)  ## the lines of case_jax that the fast tests do not reach, named
	$(RUN) -m pytest --cov=case_jax --cov-report=term-missing:skip-covered

lint: $(READY)  ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

package: $(RELEASE)  ## what a version uploads, built in dist/ and checked; a version's tag must name the version
	rm -rf dist
	$(RUN) -m build --outdir dist
	$(RUN) -m twine check --strict dist/*
	@for tag in $$(git tag --points-at HEAD 'v*' 2>/dev/null); do \
	  ls dist/case_jax-$${tag#v}-*.whl || { echo "error: tag $$tag: the version is another one" >&2; exit 2; }; done

clean:
	rm -rf $(VENV) build dist *.egg-info runs

$(RUNS): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: PYTHON=$(PYTHON): is older than 3.11; expected Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[plots,host,hdf5,video]'
	touch $@

$(READY): $(RUNS)
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

$(RELEASE): $(RUNS)
	$(RUN) -m pip install --quiet --editable '.[release]'
	touch $@
