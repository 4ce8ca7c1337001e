# The two commands of the README are `make demo` and `make test`; each sets itself up.
#   make demo [FAULT=exception|slow|crash|missing-step] [KEEP=1]
#   make test [T="tests/tracing -k spool"]
#   make bench    peers beside ours, in one run            make format    ruff, in place
#   make soak     the long runs                            make clean     what was built and installed
#   make audit    are advisories known for what is pinned?  make sbom     what is installed, as CycloneDX JSON
#   make chaos [SEED="7 8"] [MINUTES=30]                    everything breaks for a while, by a seed that is printed
.PHONY: demo test lint types unit bench soak chaos audit sbom format clean
.DEFAULT_GOAL := help

FAULT ?= exception
PYTEST_WORKERS ?= 2
BIN := .venv/bin

help:
	@sed -n '1,8s/^# \{0,1\}//p' Makefile

.venv/.all: pyproject.toml constraints.txt
	@deploy/dev/environment.sh all
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	@deploy/dev/environment.sh dev
	@touch $@ .venv/.all

demo: .venv/.all
	@$(BIN)/backtrail demo --fault $(FAULT) $(if $(KEEP),--keep)

test: lint types unit

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

# The flows start many processes and time out on a starved machine, so they run one by one after the rest.
unit: .venv/.dev
ifdef T
	$(BIN)/pytest $(T)
else
	@status=0; \
	$(BIN)/pytest tests --ignore=tests/flows --ignore=tests/chaos --ignore=tests/bench -n $(PYTEST_WORKERS) --dist loadfile || status=1; \
	$(BIN)/pytest tests/flows tests/chaos || status=1; \
	exit $$status
endif

.venv/.bench: .venv/.dev
	@deploy/dev/environment.sh bench
	@touch $@

bench: .venv/.bench
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.page

MINUTES ?= 30
chaos: .venv/.dev
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

soak: .venv/.dev
	$(BIN)/pytest tests -m soak --timeout 7200

# Exit status 3, and one line: no advisory source can be reached from here. OSV_URL=… names one of your own.
audit: .venv/.dev
	@$(BIN)/python deploy/audit.py $(if $(OSV_URL),--osv-url $(OSV_URL))

# Of what is installed here; an image's is made inside of it.
sbom: .venv/.dev
	@mkdir -p build
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --short-PURLs \
	  -o build/sbom.cdx.json $(BIN)/python
	@echo build/sbom.cdx.json

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache bench-results
