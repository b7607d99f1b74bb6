# `make demo` and `make test` work on a machine with Python 3.10 or newer, git, a compiler and make.
PYTHON ?= python3
TORCH_OPTIONS ?=
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --retries 10

.PHONY: help install develop docs demo demo-kprism test lint format clean

help:            ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

install: $(VENV)/.installed  ## make .venv with the package, its viewer and what they need

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "setuptools>=77" wheel
	$(PIP) install $(TORCH_OPTIONS) torch torchvision
	SAM2_BUILD_CUDA=0 $(PIP) install --no-build-isolation sam2==1.1.0  # its own build would fetch torch again
	$(PIP) install -e ".[annotate]"
	touch $@

develop: $(VENV)/.develop    ## the same, and what tests, pages and exports need

$(VENV)/.develop: $(VENV)/.installed
	$(PIP) install -e ".[dev]"
	touch $@

docs: develop    ## the pages of docs/ and of the public classes as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

demo: install    ## masks with the shipped weights in seconds, then a training on phantoms: three minutes, into demo_output/
	$(RUN) examples/demo.py --output demo_output

demo-kprism: install  ## K-Prism on phantoms: about three minutes on two cores, into kprism_output/
	$(RUN) examples/kprism_demo.py --output kprism_output

test: develop    ## lint, format, types and all tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2 --durations 25

lint: develop    ## the quick part of `make test`
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:           ## remove what the demos wrote
	rm -rf demo_output kprism_output
