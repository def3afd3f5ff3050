# Needs git, make and python3. Everything else is set up by .ci/setup, once, into .venv and build.

PYTHON ?= python3
COMMAND ?= serve
ENGINE ?= docker
IMAGE ?= emissions-exporter
BASE ?= python:3.13-slim

RUN := .venv/.installed
DEV := .venv/.developed
PY := .venv/bin/python

export PYTHON
export PATH := $(CURDIR)/build/debian/usr/bin:$(PATH)

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: run
run: $(RUN) ## Start the exporter here; flags in ARGS="...", another command in COMMAND="...".
	@exec .venv/bin/emissions-exporter $(COMMAND) $(ARGS)

.PHONY: check
check: $(DEV) ## Style, types and all tests that need no other program; under a minute.
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n 2 -m "not real and not chaos"

.PHONY: test
test: tools check ## All of check, then the tests with a real Prometheus and a real daemon.
	$(PY) -m pytest -m real -ra

.PHONY: chaos
chaos: $(DEV) ## Faults, kills and churn, all at once; CHAOS_SECONDS=180, CHAOS_SEED=1.
	$(PY) -m pytest -m chaos -ra

.PHONY: bench
bench: $(RUN) ## Measure what the exporter costs, into docs/performance.md; nine minutes.
	$(PY) -m tests.bench.run --write $(ARGS)

.PHONY: bench-fleet
bench-fleet: $(RUN) ## Measure one Prometheus with 200,000 series, into docs/scale.md; fifteen minutes.
	$(PY) -m tests.bench.fleet --write $(ARGS)

.PHONY: test-gpu
test-gpu: $(DEV) ## Measure a real NVIDIA GPU, into docs/gpu.json; skips where there is none.
	$(PY) -m tests.gpu.measure docs/gpu.json

.PHONY: tools
tools: ## The programs that the real tests need.
	@.ci/setup tools || echo "Tests that need them are skipped."

.PHONY: docs
docs: $(DEV) ## Write the pages of docs/ that are made from the code.
	$(PY) docs/generate.py

.PHONY: dashboards
dashboards: $(DEV) ## Write dashboards/generated from its sources.
	$(PY) dashboards/generate.py

.PHONY: image
image: ## Build the container image with ENGINE, on BASE.
	$(ENGINE) build --build-arg BASE=$(BASE) --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' exporter/__init__.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" .

.PHONY: clean
clean: ## Remove all that was set up or made here.
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUN): pyproject.toml .ci/setup
	@.ci/setup run

$(DEV): $(RUN)
	@.ci/setup dev
