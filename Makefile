# `make demo` trains the branched model on the built-in dataset; `make test` runs all tests; `make bench` measures speed
# beside PyTorch; `make soak` runs the long forms of the tests of robustness; `make models` remakes the README's table.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint bench bench-gpu soak models

demo: $(VENV)/installed
	$(RUN) -m trainers.fit --arch branched

test: $(VENV)/installed-test lint
	$(RUN) -m pytest

# On a machine with nothing else to do: some twenty minutes on two cores.
bench: $(VENV)/installed-test
	$(RUN) -m benchmarks.train_step
	$(RUN) -m benchmarks.infer
	$(RUN) -m benchmarks.startup
	$(RUN) -m benchmarks.metrics_cost --backends jax,tensorflow
	$(RUN) -m benchmarks.memory
	$(RUN) -m benchmarks.loader
	$(RUN) -m benchmarks.growth --backends jax --encoder resnet18 --size 64,128
	$(RUN) -m benchmarks.results

# On a GPU, in an environment that has JAX and PyTorch for it. The steps' tables tell the peaks of its memory too.
GPU := --precision mixed_bfloat16 --batch_size 64 --size 256,256 --backends jax,torch --compile_torch
RUN_GPU := --dataset streets/medium --precision mixed_bfloat16 --batch_size 64 --epochs 3
bench-gpu:
	$(PYTHON) -m benchmarks.train_step --name train_step_gpu $(GPU) --steps 20
	$(PYTHON) -m benchmarks.train_step --name train_step_gpu_distillation --arch distillation $(GPU) --steps 20
	$(PYTHON) -m benchmarks.infer --name infer_gpu --formats= $(GPU) --steps 20
	$(PYTHON) -m benchmarks.metrics_cost --name metrics_cost_gpu $(GPU) --steps 20
	$(PYTHON) -m benchmarks.whole_run -- $(RUN_GPU)
	$(PYTHON) -m benchmarks.whole_run --name whole_run_branched -- --arch branched $(RUN_GPU)
	$(PYTHON) -m benchmarks.results

# `make models RUNS="runs/A runs/B"` fills in what these runs came to.
models: $(VENV)/installed
	$(RUN) -m trainers.models $(RUNS)

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
