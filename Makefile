# `make demo` trains the branched model on the built-in dataset; `make test` runs all tests.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint

demo: $(VENV)/installed
	$(RUN) -m trainers.fit --arch branched

test: $(VENV)/installed-test lint
	$(RUN) -m pytest

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-test: requirements-test.txt requirements-extras.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r requirements-test.txt
	touch $@
