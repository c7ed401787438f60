# Two commands do it all: `make repro` (environment, then the graph) and `make test` (environment, then tests).
# Nothing but Python 3.11 and git is needed beforehand, no home directory, no git identity.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := $(CURDIR)/.venv
STAMP := $(VENV)/.installed

export PATH := $(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export NO_ALBUMENTATIONS_UPDATE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
unexport PYTHONHOME PYTHONPATH
# Where it is set, every stage compiles all that it imports once more: torch alone takes 4 seconds then, instead of 2.
unexport PYTHONDONTWRITEBYTECODE

TESTS ?= tests
# Each worker is a process with torch in it, about a gigabyte; two cores take two.
WORKERS ?= logical
PYTEST := python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadgroup

.PHONY: help setup repro test test-slow lint format docs site serve deploy bench gsimclr-table wheel clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(STAMP) ## make the environment in .venv from requirements.lock (once; offline afterwards)

# By a path, as editable_mode=compat has it, a script beside a clone called `reprise` finds the package, not the clone.
# The stamp is younger than the lock and pyproject.toml exactly when the environment fits them.
# Two packages come as sources only: without --use-pep517, pip before 23.1 (Debian's) warns that it installs them in an old way.
$(STAMP): requirements.lock pyproject.toml
	@if [ ! -x "$(VENV)/bin/python" ]; then \
	  command -v "$(PYTHON)" >/dev/null || { echo "setup: no '$(PYTHON)' on PATH. Install Python 3.11, or say which: make PYTHON=/path/to/python3.11"; exit 1; }; \
	  "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	    || { echo "setup: Reprise needs Python 3.11 to 3.13, and '$(PYTHON)' is $$("$(PYTHON)" -V)"; exit 1; }; \
	  echo "setup: making .venv with $$("$(PYTHON)" -V)"; "$(PYTHON)" -m venv "$(VENV)"; fi
	@echo "setup: installing $$(grep -c == requirements.lock) pinned packages into .venv (minutes the first time)"
	@python -m pip install --quiet --no-compile --use-pep517 -r requirements.lock
	@echo "setup: installing Reprise itself, in place"
	@python -m pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@python -m pip check
	@echo "setup: done. For the commands 'reprise' and 'dvc', type once in each terminal: source .venv/bin/activate"
	@touch "$@"

repro: setup ## run the graph: images to report; what is up to date is skipped
	@reprise repro

test: setup ## the tests, without the slow ones and those that need a GPU
	@$(PYTEST) -m "not slow and not gpu" $(TESTS)

test-slow: setup ## the slow tests
	@$(PYTEST) -m "slow and not gpu" $(TESTS)

lint: setup ## ruff, its formatter, mypy, and whether DVC can read the graph
	@ruff check .
	@ruff format --check .
	@mypy
	@stages="$$(dvc stage list --name-only)" && echo "dvc.yaml: $$(wc -l <<< "$$stages") stages"

format: setup ## let ruff put imports and layout in order
	@ruff check --fix .
	@ruff format .

docs: setup ## write command-line.md, parameters.md, papers.md and plug-ins/ of docs/reference from the code
	@python -P stages/run.py stages.check.describe --reference docs/reference/parameters.md
	@python -m pipeline.cli.described.reference docs/reference/command-line.md

site: setup ## the documents as a site: open site/index.html; search works from the disk, too
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet

serve: setup ## Prefect's server, work pool and worker for this folder, until Ctrl-C
	@reprise flows serve

deploy: setup ## register the schedules of prefect.yaml with the server of `make serve`
	@reprise flows deploy

bench: setup ## the timed scripts of benchmarks/; each says what it measures
	@for script in benchmarks/*.py benchmarks/training/*.py; do \
	  echo "== $$script"; module="$${script%.py}"; python -m "$${module//\//.}"; done

gsimclr-table: setup ## G-SimCLR against SimCLR: make gsimclr-table CIFAR10=/folder IMAGENET5=/folder (hours; resumable)
	@python -m studies.gsimclr $(if $(CIFAR10),--cifar10 "$(CIFAR10)") $(if $(IMAGENET5),--imagenet5 "$(IMAGENET5)")

wheel: setup ## dist/reprise-*.whl, to be installed anywhere: `reprise init FOLDER` then makes a project
	@rm -rf build
	@python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/reprise-*.whl

clean: ## remove caches and build leftovers; never data, never .venv
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks build site *.egg-info
	@find pipeline reprise stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: caches removed; data/, .dvc/cache and .venv are as they were"
