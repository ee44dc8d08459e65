# Everything here needs Python 3.11 or newer and nothing else: the first target makes the project's own
# environment in .venv (tools/bootstrap.py), pinned by hash, and again only when something it depends on changes.
#
#   PYTHON=/path/to/python3    another Python than the first fitting one on the PATH
#   ARGS="..."                 more arguments for the program that is run

CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
FITS := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
FOUND = $(shell for python in $(CANDIDATES); do $$python $(FITS) 2>/dev/null && echo $$python && break; done)
ifndef PYTHON
PYTHON := $(or $(FOUND),python3)
endif

# Of the user's own Python set-up nothing may leak in.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
export PYTHONNOUSERSITE := 1

RUN := .venv/bin/python -m

# The whole test suite takes a fraction of the time in several processes; a part of it would only start more slowly.
# How many there are on how many cores, and which files come first, is said in tests/conftest.py.
ON_ALL_CORES := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test lint format site bench crash lock clean environment-demo environment-dev

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: environment-demo ## run everything for real on this machine; ARGS="--for 60s" ends by itself
	@$(RUN) sungrow_lib.cli demo $(ARGS)

test: environment-dev ## run the whole test suite; ARGS="-k spool" runs a part of it
	@$(RUN) pytest $(or $(ARGS),$(ON_ALL_CORES))

lint: environment-dev ## check style and types
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy

format: environment-dev ## put the code into its one format
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

site: environment-dev ## build the documentation site into website/build
	@$(RUN) tools.site

bench: environment-dev ## measure against floors and peers in the same run
	@$(RUN) benchmarks $(ARGS)

crash: environment-dev ## kill, cut, damage and lie for long, then count every reading; ARGS="--seed 7 --for 10m"
	@$(RUN) tests.crash $(ARGS)

lock: environment-dev ## write requirements/*.lock anew from pyproject.toml (needs uv)
	@.venv/bin/python tools/lock.py $(ARGS)

clean: ## remove everything these targets have made
	rm -rf reference_server/web dashboard/node_modules dashboard/.built
	rm -rf website/build website/.docusaurus website/generated website/node_modules docs/api docs/reference docs/notebooks
	rm -rf .venv .demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment-demo environment-dev: environment-%:
	@"$(PYTHON)" -I tools/bootstrap.py $*
