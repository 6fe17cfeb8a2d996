# `make demo` trains the branched model on the built-in dataset; `make test` runs all tests.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint soak

demo: $(VENV)/installed
	$(RUN) -m trainers.fit --arch branched

test: $(VENV)/installed-test lint
	$(RUN) -m pytest

# Half an hour of kills, clients, epochs and forged inputs; `make test` has the short forms.
soak: $(VENV)/installed-test
	nice $(RUN) -m benchmarks.chaos --kills 50
	nice $(RUN) -m benchmarks.load --clients 50 --seconds 60
	nice $(RUN) -m benchmarks.soak --epochs 500 --predictions 5000
	nice $(RUN) -m benchmarks.fuzz --seconds 20

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-test: requirements-test.txt requirements-extras.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r requirements-test.txt
	touch $@
