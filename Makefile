# Commands for users and developers; 'make' without a target lists them.
# They change nothing outside this folder, except that they install system packages after naming them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export UV_CACHE_DIR ?= $(CURDIR)/.milepost/uv-cache
export UV_PYTHON_DOWNLOADS := never
UV := .milepost/tools/bin/uv
READY := .venv/.complete
MANIFESTS := pyproject.toml uv.lock $(wildcard */*/pyproject.toml)

# The files and folders that 'make demo' digests.
FILES ?= README.md docs handlers libs services tools

##@ Try it
.PHONY: demo up down compose pin
demo: $(READY) ## Start everything, run a job on this project's own files (or FILES="…"), show its progress, stop
	@.venv/bin/stack run -- .venv/bin/milepost submit digest-files pause=0.03 --watch $(foreach file,$(FILES),--file "$(file)")
	@printf '\nTry next:\n  %s\n  %s\n  %s\n' \
		'make up                                                   start and keep it running; then, in another terminal:' \
		'.venv/bin/milepost submit count steps=50 --watch          a job with a moving bar' \
		'.venv/bin/milepost types                                  list the job types'

up: $(READY) ## Start everything and run until Ctrl-C, or 'make down' in another terminal
	@.venv/bin/stack up

down: $(READY) ## Stop what 'make up' started
	@.venv/bin/stack down

# Settings of your own for docker-compose.yml.
.env:
	@umask 077 && : > .env

deploy/access: $(READY)
	@[ -d $@ ] || .venv/bin/stack access --folder $@ --processor milepost-images:images

compose: deploy/access ## Build and start everything in containers, and wait until it is healthy (needs Docker)
	docker compose up --build --detach --wait

pin: ## Pin the images of 'make compose' in .env, by the digests that the registry has for them now
	@deploy/pin-images

##@ Develop
.PHONY: setup check check-supply test faults bench bench-scaling bench-own foreign isolated contracts docs format
setup: $(READY) ## Install the project's packages into .venv; the other commands do this when needed

check: $(READY) ## Lint, types and import contracts, in seconds
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

check-supply: $(READY) ## Write the SBOM of each image to .milepost/sbom, and audit all locked packages (asks the package index)
	@.venv/bin/python tools/check-supply

test: $(READY) ## Run all tests, with a real RabbitMQ and Redis
	@.venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

FOREIGN := tests/foreign
FOREIGN_READY := $(FOREIGN)/node_modules/.complete
PAGE := http://127.0.0.1:14999
DASHBOARD_ENV := PYTHONPATH=$(CURDIR)/$(FOREIGN)/dashboard MILEPOST_HANDLERS=shown_jobs,milepost_basics MILEPOST_CORS_ORIGINS='*'
DASHBOARD := $(FOREIGN)/.venv/bin/pytest -q -c $(FOREIGN)/dashboard/pytest.ini $(FOREIGN)/dashboard/test_dashboard.py

# The random seeds for the load of 'make faults'.
SEEDS ?= 1,2,3

faults: $(READY) ## Run the full fault matrix and write docs/faults.md: about an hour for each of SEEDS="1,2,3"
	@.venv/bin/pytest tests/faults -p no:randomly --faults full --seeds $(SEEDS) $(ARGS)

BENCH_READY := bench/.venv/.complete
BENCH := bench/.venv/bin/python
SERVERS := .venv/bin/stack run --gateways 0 --processors 0 --trackers 0 --

bench: $(READY) $(BENCH_READY) ## Compare Milepost with alternatives, in three rounds: about an hour (ARGS="--rounds 1")
	@$(SERVERS) $(BENCH) bench/compare.py $(ARGS)
	@$(BENCH) bench/report.py bench/results/compare.json

$(BENCH_READY): bench/pyproject.toml bench/uv.lock $(READY)
	@$(UV) sync --quiet --locked --compile-bytecode --project bench --group peers
	@UV_PROJECT_ENVIRONMENT=.venv-arq $(UV) sync --quiet --locked --compile-bytecode --project bench --group arq
	@touch $@

bench-scaling: $(READY) ## Measure how Milepost scales with processes, jobs, readers and reports: about ten minutes (ARGS="--jobs 10000")
	@$(SERVERS) .venv/bin/python bench/scaling.py $(ARGS)

bench-own: $(READY) $(FOREIGN_READY) ## Measure event latency, readers, the dashboard and a reload: about four minutes
	@PYTHONPATH=bench MILEPOST_HANDLERS=bench_jobs .venv/bin/stack run -- .venv/bin/python bench/streams.py $(ARGS)
	@.venv/bin/stack run -- $(FOREIGN)/.venv/bin/python bench/dashboard.py
	@.venv/bin/python bench/reload.py

foreign: $(READY) $(FOREIGN_READY) ## Test the contracts and a gateway with third-party linters, clients and Chromium
	@$(FOREIGN)/contracts
	@MILEPOST_CORS_ORIGINS=$(PAGE) .venv/bin/stack run -- $(FOREIGN)/gateway
	@$(DASHBOARD_ENV) .venv/bin/stack run -- $(DASHBOARD) $(ARGS)
	@$(DASHBOARD_ENV) $(FOREIGN)/dashboard/with-a-key

$(FOREIGN_READY): $(READY) $(FOREIGN)/package-lock.json $(FOREIGN)/uv.lock
	@.venv/bin/python $(FOREIGN)/install
	@cd $(FOREIGN) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@$(UV) sync --quiet --locked --compile-bytecode --project $(FOREIGN)
	@touch $@

isolated: $(READY) ## Run each package's unit tests in an environment with only that package's dependencies
	@tools/isolated

contracts: $(READY) ## Regenerate openapi.json, asyncapi.yaml, cli.md and the synchronous SDK (a test compares them)
	@.venv/bin/python tools/contracts

docs: $(READY) ## Build the documentation into .milepost/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet
	@echo "$(CURDIR)/.milepost/site/index.html"

format: $(READY) ## Format the code and apply the linter's fixes
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

##@ Clean up
.PHONY: clean
clean: ## Remove everything that these commands created in this folder
	rm -rf bench/.venv bench/.venv-arq tests/foreign/node_modules tests/foreign/.venv tests/foreign/made .venv .milepost .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help
help: ## Print this list
	@awk 'BEGIN { FS = ":.*## "; print "Milepost: hand over a long-running job, get 202 Accepted, follow every step.\n\nUsage: make TARGET" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): tools/bootstrap $(MANIFESTS)
	@tools/bootstrap
