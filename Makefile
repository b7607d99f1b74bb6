# `make demo` and `make test` work on a machine with Python 3.10 or newer, git, a compiler and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --retries 10

.PHONY: help install demo demo-kprism test lint format clean

help:            ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

install: $(VENV)/.installed  ## make .venv with the package and its tools

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "setuptools>=77" wheel torch torchvision
	SAM2_BUILD_CUDA=0 $(PIP) install --no-build-isolation sam2==1.1.0  # its own build would fetch torch again
	$(PIP) install -e ".[dev]"
	touch $@

demo: install    ## phantoms, training, evaluation, inference: about three minutes on two cores, into demo_output/
	$(RUN) examples/demo.py --output demo_output

demo-kprism: install  ## K-Prism on phantoms: about three minutes on two cores, into kprism_output/
	$(RUN) examples/kprism_demo.py --output kprism_output

test: install    ## lint, format, types and all tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2

lint: install    ## the quick part of `make test`
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:           ## remove what the demos wrote
	rm -rf demo_output kprism_output
