# `make train` and `make test` set up their own environment; all they need is Python 3.11 to 3.13 and pip.
#   make train                                        train the quick start
#   make train ARGS="--config NAME"                   train another config; ARGS="--help all" lists every option
#   make test-fast                                    the quick two thirds of the tests, for each save; ARGS="tests/data -x"
#   make test                                         lint, import contracts, tests
#   make test-docs                                    run the code of notebooks and pages
#   make stress                                       tests that take minutes each: lost workers, kills, damaged files, a long run
#   make types                                        check all type hints; `make test` checks those of the public names
#   make docs                                         build the site of docs/ in build/site
#   make tutorials                                    run the notebooks of docs/tutorials and store their outputs
#   make bench                                        speed and memory: training, generator, attention, data, start-up; TORCH_PYTHON=...
#   make operations                                   count the operations of a training step, the same on every machine
#   make dist                                         build wheel and sdist; run tests from the sdist, and the wheel in a bare environment elsewhere
#   make parity                                       rerun TF-GAN and TensorFlow Addons and compare with tests/parity/files (Python 3.11)

VENV ?= .venv
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && \
	echo $$python && break; done)
# Machines with an NVIDIA driver also get TensorFlow's CUDA libraries; `make train EXTRAS=` omits them.
EXTRAS ?= $(if $(shell command -v nvidia-smi 2>/dev/null),cuda)
# Parallel test processes, of up to 4 GB each: one more than two cores, since tests also wait.
WORKERS ?= 3

# A Python that has PyTorch (the CPU build is enough), for the comparisons with PyTorch.
TORCH_PYTHON ?= python3

BIN = $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help train test test-fast test-docs stress lint types docs tutorials bench operations dist parity clean
.DEFAULT_GOAL := help

help:
	@sed -n '/^#   make/s/^#   //p' $(firstword $(MAKEFILE_LIST))

train: $(VENV)/.installed
	$(BIN)/python -m sagan_tf.train $(ARGS)

# Tests that follow one another share what is costly to make; a worker that has finished takes half of the others' rest.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: lint
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.installed-test
	$(PYTEST) -m 'not slow and not stress and not documentation' $(ARGS)

test-docs: $(VENV)/.installed-test
	$(PYTEST) -m documentation tests/test_examples.py tests/test_tutorials.py $(ARGS)

stress: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m stress
	SAGAN_TF_FUZZ=40 $(BIN)/python -m pytest tests/test_hostile_*.py tests/config/test_loading.py tests/data/test_readers.py \
	tests/serving/test_hostile_*.py tests/serving/test_malformed.py
	$(BIN)/python tests/stress/kill_and_resume.py --kills 50
	$(BIN)/python tests/stress/long_run.py --steps 20000

# The wheel is the sdist's: `build` makes one from the other. Tests run from the sdist too.
dist: $(VENV)/.installed-test
	rm -rf dist build/bare
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --outdir dist .
	rm -rf build/sdist && mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist
	cd build/sdist/* && $(abspath $(BIN))/python -m pytest -q tests/test_docs.py tests/test_configs.py tests/config tests/runs
	$(BIN)/python -m venv build/bare || { $(BIN)/python -m venv --clear --without-pip build/bare && \
	$(BIN)/python -m pip --python build/bare/bin/python install --quiet pip; }
	build/bare/bin/python -m pip install --quiet dist/*.whl
	cd build/bare && bin/sagan --version && bin/sagan configs && \
	bin/python -m sagan_tf.train --run run --training.steps 2 --output.tensorboard none && bin/sagan sample run --out pictures && \
	bin/sagan export run --formats saved_model --out export && bin/sagan report run

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing

types: $(VENV)/.installed-test
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/site/build.py

tutorials: $(VENV)/.installed-test
	for notebook in docs/tutorials/*.ipynb; do $(BIN)/python docs/tutorials/run.py $$notebook --store || exit 1; done

# Also measures BigGAN-PyTorch if TORCH_PYTHON has PyTorch.
bench: $(VENV)/.installed
	mkdir -p build
	$(BIN)/python benchmarks/training_speed.py --json build/training_speed.json \
	$(shell $(TORCH_PYTHON) -c 'import torch' 2>/dev/null && echo --torch_python $(TORCH_PYTHON)) $(ARGS)
	$(BIN)/python benchmarks/generator_speed.py --json build/generator_speed.json \
	$(shell $(TORCH_PYTHON) -c 'import torch' 2>/dev/null && echo --torch_python $(TORCH_PYTHON))
	$(BIN)/python benchmarks/roofline.py --json build/roofline.json \
	$(shell $(TORCH_PYTHON) -c 'import torch' 2>/dev/null && echo --torch_python $(TORCH_PYTHON))
	$(BIN)/python benchmarks/data_loading.py --json build/data_loading.json \
	$(shell $(TORCH_PYTHON) -c 'import torch, h5py' 2>/dev/null && echo --torch_python $(TORCH_PYTHON))
	$(BIN)/python benchmarks/start_up.py --json build/start_up.json
	$(BIN)/python benchmarks/step_parts.py
	$(BIN)/python benchmarks/attention_memory.py --json build/attention_memory.json

operations: $(VENV)/.installed
	$(BIN)/python benchmarks/step_operations.py $(ARGS)

# TF-GAN and TensorFlow Addons need an environment of their own: they do not run with current TensorFlow.
parity: .venv-parity/.installed
	.venv-parity/bin/python tests/parity/check_goldens.py $(ARGS)
	@if $(TORCH_PYTHON) -c 'import torch' 2>/dev/null; then $(TORCH_PYTHON) tests/parity/check_goldens.py --torch $(ARGS); \
	else echo 'Skipped PyTorch. To compare, name a Python that has it: make parity TORCH_PYTHON=...'; fi
	@if $(TORCH_PYTHON) -c 'import cleanfid, prdc, torch_fidelity' 2>/dev/null; then \
	$(TORCH_PYTHON) tests/parity/check_goldens.py --metrics $(ARGS); \
	else echo 'Skipped torch-fidelity, clean-fid and prdc. To compare, install them in the same Python.'; fi

.venv-parity/.installed: tests/parity/requirements.txt
	python3.11 -m venv .venv-parity || { python3.11 -m venv --clear --without-pip .venv-parity && \
	python3.11 -m pip --python .venv-parity/bin/python install --quiet pip; }
	.venv-parity/bin/python -m pip install --quiet -r $<
	@touch $@

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --editable '.[docs$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --editable '.[test$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

comma := ,

# Some systems ship `venv` without ensurepip; there the system's pip installs pip into the environment.
$(VENV)/bin/pip:
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11, 3.12 or 3.13 found. Name one: make PYTHON=/path/to/python' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	$(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip; }

# Removes environments, builds and caches; keeps runs/.
clean:
	rm -rf $(VENV) .venv-parity build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find sagan_tf tests -name __pycache__ -type d -prune -exec rm -rf {} +
