# Needs git, make and python3. Everything else is set up by .ci/setup, once, into .venv and build.

PYTHON ?= python3
COMMAND ?= serve
ENGINE ?= docker
IMAGE ?= emissions-exporter
BASE ?= python:3.13-slim
SOURCE ?= unknown
DOCUMENTATION ?= unknown

RUN := .venv/.installed
DEV := .venv/.developed
PY := .venv/bin/python

QUICK := not real and not chaos and not soak and not image and not ml and not cluster
# Those of torch need six gigabytes: make test-ml-torch.
ML := $(filter-out torch,$(patsubst tests/ml/%/requirements.txt,%,$(wildcard tests/ml/*/requirements.txt)))

# What each run of pytest skipped and ran twice, for a sum at the end.
ifndef TALLY
TALLY := build/tally.jsonl
$(shell rm -f $(TALLY); mkdir -p build)
endif
export TALLY

# Tests are compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE

export PYTHON
export PATH := $(CURDIR)/build/debian/usr/bin:$(CURDIR)/build/debian/usr/sbin:$(CURDIR)/build/helm:$(PATH)

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: run
run: $(RUN) ## Start the exporter here; flags in ARGS="...", another command in COMMAND="...".
	@exec .venv/bin/emissions-exporter $(COMMAND) $(ARGS)

EXAMPLES ?= few
.PHONY: check
check: $(DEV) ## Style, types and all tests that need no other program; under a minute.
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n 3 --dist worksteal --hypothesis-profile=$(EXAMPLES) -m "$(QUICK)"

.PHONY: test
test: tools check ## All of check, then the tests with a real Prometheus and a real daemon.
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "real and beside" -ra
	$(PY) -m pytest -m "real and not beside" -ra
	@$(PY) -m tests.tally $(TALLY)

.PHONY: test-ml
test-ml: $(ML:%=test-ml-%) ## Integrations beside the real tools, each in an environment of its own.

test-ml-%: $(RUN)
	@.ci/setup ml $*
	build/ml/$*/bin/python -m pytest -m ml -ra tests/ml/$*

CHAOS_SEED ?= $(or $(TEST_SEED),1)
.PHONY: chaos
chaos: tools $(DEV) ## Faults, kills and churn, all at once; CHAOS_SECONDS=180, CHAOS_SEED=1.
	TEST_SEED=$(CHAOS_SEED) $(PY) -m pytest -m chaos -ra

SOAK_SECONDS ?= 1200
.PHONY: soak
soak: tools $(DEV) ## A long life amid churn, without growth; SOAK_SECONDS=1200.
	TEST_SEED=$(CHAOS_SEED) SOAK_SECONDS=$(SOAK_SECONDS) $(PY) -m pytest -m soak -ra

FUZZ_SECONDS ?= 120
.PHONY: fuzz
fuzz: $(DEV) ## Fuzz every parser; FUZZ_SECONDS=120 for each, or those named in ARGS="...".
	@.ci/setup fuzz || echo "Inputs are changed at random, not guided by coverage."
	$(PY) -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(ARGS)

.PHONY: bench
bench: cc $(DEV) ## Measure what the exporter costs, into docs/performance.md; eleven minutes.
	@.ci/setup rivals || echo "Programs that are missing are left out."
	$(PY) -m tests.bench.run --write $(ARGS)

.PHONY: bench-fleet
bench-fleet: tools $(DEV) ## Measure one Prometheus with 200,000 series, into docs/scale.md; fifteen minutes.
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

.PHONY: chart
chart: $(DEV) helm ## Write what is made of the Helm chart: deploy/kubernetes, its README, its schema.
	$(PY) -m deploy.helm.generate

.PHONY: test-chart
test-chart: $(DEV) helm ## Lint, render and check every variant of the Helm chart.
	$(PY) -m pytest -n 2 -ra tests/unit/test_chart.py tests/deploy/chart

.PHONY: cc
cc:
	@.ci/setup cc || echo "What needs it is left out."

.PHONY: helm
helm:
	@.ci/setup helm || echo "What needs it is left out."

.PHONY: screenshots
screenshots: tools $(DEV) ## Draw the pictures of the live pages, into docs/screenshots.
	$(PY) -m tests.screenshots docs/screenshots

.PHONY: preview
preview: tools $(DEV) ## Draw the dashboards without Grafana, into docs/previews.
	$(PY) -m tests.dashboards.preview $(ARGS)

.PHONY: image
image: ## Build the container image with ENGINE, on BASE.
	$(ENGINE) build --build-arg BASE=$(BASE) --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' exporter/__init__.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" \
		--build-arg SOURCE=$(SOURCE) --build-arg DOCUMENTATION=$(DOCUMENTATION) $(BUILD_FLAGS) .

.PHONY: test-image
test-image: $(DEV) ## Build the image and try it, hardened, with ENGINE; skips where none answers.
	export ENGINE=$(ENGINE) BASE=$(BASE); $(PY) -m pytest -m image -ra tests/deploy/image

.PHONY: test-cluster
test-cluster: $(DEV) ## The chart and the exporter on a real control plane and kubelet; root, Debian and Go.
	@.ci/setup cluster || echo "Tests that need a cluster are skipped."
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m cluster -ra tests/cluster

.PHONY: clean
clean: ## Remove all that was set up or made here.
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUN): pyproject.toml .ci/setup
	@.ci/setup run

$(DEV): $(RUN)
	@.ci/setup dev
