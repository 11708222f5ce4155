# Holdfast. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.8
BIN := .venv/bin
UV := $(BIN)/uv
PY := $(BIN)/python
# pytest-xdist's workers each start an own PostgreSQL
WORKERS ?= auto
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal

# The first interpreter that is new enough; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Where the system has a certificate store uv trusts it, as pip does: behind a company's proxy nothing else works.
ifneq (,$(wildcard /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem /etc/pki/tls/certs/ca-bundle.crt))
export UV_SYSTEM_CERTS := 1
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- using it --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/local.stamp ## run the main job on this machine (PROMPT="..." IMAGE=picture.png)
	@$(PY) -m local.demo $(if $(PROMPT),--prompt "$$PROMPT") $(if $(IMAGE),--image "$$IMAGE")
export PROMPT IMAGE

.PHONY: dev
dev: .venv/local.stamp ## keep the local cloud running; prints its URLs and a user's token
	@$(PY) -m local.dev

.PHONY: invoke
invoke: .venv/local.stamp ## run one function once: make invoke FN=get_status EVENT=events/http.account.json
	@$(PY) -m local.invoke "$(FN)" "$(EVENT)"

# ---- testing it ------------------------------------------------------------------------------------------------------

.PHONY: test
test: .venv/dev.stamp ## the whole suite, on the embedded PostgreSQL
	$(PYTEST) tests

.PHONY: test-unit
test-unit: .venv/dev.stamp ## the ring without processes
	$(PYTEST) tests/unit

SQL_RINGS := tests/sql tests/concurrency tests/interleavings tests/crash tests/conformance
.PHONY: test-sql
test-sql: .venv/dev.stamp ## the SQL rings; PGBIN=/usr/lib/postgresql/15/bin chooses another PostgreSQL
	$(PYTEST) $(SQL_RINGS)

.PHONY: test-ledger
test-ledger: .venv/dev.stamp ## the ledger's tests at full length: 2,000 model runs of 50 steps, every order of each pair
	LEDGER_PROFILE=full $(PYTEST) $(SQL_RINGS)

# The first browser that is there; set CHROMIUM to choose another.
CHROMIUM ?= $(shell for p in chromium chromium-browser google-chrome google-chrome-stable \
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do command -v "$$p" && break; done)
.PHONY: find-browser
find-browser:
	@test -n "$(CHROMIUM)" || { echo "No browser was found: apt-get install chromium, or CHROMIUM=/path/to/one"; exit 1; }

.PHONY: test-browser
test-browser: find-browser .venv/browser.stamp ## the page in a real browser; needs Chromium or Chrome (Debian: apt-get install chromium)
	BROWSER="$(CHROMIUM)" $(BIN)/pytest tests/browser

.PHONY: conformance
conformance: .venv/dev.stamp ## fifteen invariants for any system that moves money, one line each
	$(BIN)/pytest tests/conformance -v --no-header

SEED ?= 1
RUNS ?= 200
.PHONY: chaos
chaos: .venv/dev.stamp ## the crash campaign: make chaos SEED=1 RUNS=200; TRAIL=1 tells all of it, DEFECT="..." breaks the product first
	@PYTHONPATH=.:layers/shared $(PY) -m tests.chaos --seed $(SEED) --runs $(RUNS) $(if $(TRAIL),--trail) $(if $(DEFECT),--defect "$(DEFECT)")

.PHONY: chaos-stripe
chaos-stripe: .venv/dev.stamp ## the billing campaign, 5 s a run: make chaos-stripe SEED=1 RUNS=20; TRAIL=1 and DEFECT="..." as above
	@PYTHONPATH=.:layers/shared $(PY) -m tests.chaos_stripe --seed $(SEED) --runs $(RUNS) $(if $(TRAIL),--trail) $(if $(DEFECT),--defect "$(DEFECT)")

.PHONY: mutants
mutants: .venv/dev.stamp ## break the ledger's SQL, one defect at a time: a mutant the tests miss fails it
	@$(PY) -m tools.mutants

.PHONY: check
check: .venv/dev.stamp ## format, lint, types, import direction, SQL style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy layers/shared functions local tools bench
	PYTHONPATH=.:layers/shared $(BIN)/lint-imports
	$(BIN)/sqlfluff lint --disable-progress-bar sql/migrations

.PHONY: format
format: .venv/dev.stamp ## write the format that `check` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench-ledger
bench-ledger: .venv/dev.stamp ## measure the ledger beside the usual design of one, about 12 minutes (QUICK=1: see that it runs)
	@$(PY) -m bench.ledger $(if $(QUICK),--quick)

# ---- building it -----------------------------------------------------------------------------------------------------

ARCHITECTURE ?= arm64

.PHONY: build
build: .venv/local.stamp ## validate and build the bundle for AWS with `sam build` (ARCHITECTURE=x86_64 for the other one)
	@$(PY) -m tools.build deploy --architecture $(ARCHITECTURE)

.PHONY: build-local
build-local: .venv/local.stamp ## build the bundle for this machine, to .aws-sam/local
	@$(PY) -m tools.build local

.PHONY: validate
validate: .venv/local.stamp ## validate and lint template.yaml with the SAM CLI
	@$(PY) -m tools.validate

.PHONY: lint-template
lint-template: .venv/dev.stamp ## lint the transformed template with cfn-lint and checkov
	@$(PY) -m tools.lint_template

.PHONY: deploy-check
deploy-check: .venv/dev.stamp build ## deploy the built bundle for real, to a CloudFormation on this machine
	@$(PY) -m tools.deploy_check

# ---- keeping it ------------------------------------------------------------------------------------------------------

.PHONY: verify
verify: .venv/local.stamp ## prove the books of the database DATABASE_URL: audit and seals (SEAL=ID:HASH from the sweep's log)
	@$(PY) -m tools.verify $(if $(SEAL),--seal "$(SEAL)")

# --name='value' if the variable is given, safe from the shell whatever is in it
option = $(if $(value $(1)),--$(2)='$(subst ','\'',$(value $(1)))')

.PHONY: ops
ops: .venv/local.stamp ## what is stuck in DATABASE_URL (RETRY=id, REFUND=id); REPORT=1; ADJUST=user CREDITS=n, ROLE=r USER_ID=user, WELCOME=n, each with REASON= (KEY=, YES=1)
	@$(PY) -m tools.ops $(call option,RETRY,retry) $(call option,REFUND,refund) $(if $(REPORT),--report) \
		$(call option,ADJUST,adjust) $(call option,CREDITS,credits) $(call option,WELCOME,welcome) \
		$(call option,ROLE,role) $(call option,USER_ID,user-id) \
		$(call option,REASON,reason) $(call option,KEY,key) $(if $(YES),--yes)

.PHONY: stripe-catalog
stripe-catalog: .venv/local.stamp ## bring Stripe (STRIPE_API_KEY) up to date with the catalogue: shows the plan, then asks (YES=1)
	@PYTHONPATH=.:layers/shared $(PY) -m tools.stripe_catalog $(if $(YES),--yes)

.PHONY: doctor
doctor: .venv/local.stamp ## look at DATABASE_URL and Stripe (STRIPE_API_KEY): migrations, catalogue, prices, webhook endpoint
	@PYTHONPATH=.:layers/shared $(PY) -m tools.doctor

.PHONY: reconcile
reconcile: .venv/local.stamp ## compare DATABASE_URL with Stripe (STRIPE_API_KEY) and repair: make reconcile SINCE=2026-11-01
	@PYTHONPATH=.:layers/shared $(PY) -m tools.reconcile --since "$(SINCE)"

.PHONY: schema
schema: .venv/dev.stamp ## write sql/schema.sql from the migrations
	$(PY) -m tools.dump_schema

.PHONY: openapi
openapi: .venv/dev.stamp ## write docs/openapi.json from the functions
	PYTHONPATH=.:layers/shared $(PY) -m tools.openapi

.PHONY: client
client: .venv/dev.stamp openapi ## write clients/typescript from docs/openapi.json
	@$(PY) -m tools.typescript_client

LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
.PHONY: lock
lock: .venv/uv.stamp ## resolve the pinned requirements anew
	$(LOCK) layers/shared/requirements.in -o layers/shared/requirements.txt
	$(LOCK) requirements/local.in -c layers/shared/requirements.txt -o requirements/local.txt
	$(LOCK) requirements/dev.in -c requirements/local.txt -o requirements/dev.txt
	$(LOCK) requirements/browser.in -o requirements/browser.txt

.PHONY: clean
clean: ## remove what the targets made
	rm -rf .venv .aws-sam .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache demo-output

# ---- the environment -------------------------------------------------------------------------------------------------

.venv/uv.stamp:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/local.stamp: .venv/uv.stamp requirements/local.txt
	@echo "installing the local cloud's requirements"
	@$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/local.txt
	@touch $@

.venv/dev.stamp: .venv/uv.stamp requirements/dev.txt
	@echo "installing the development requirements"
	@$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/dev.txt
	@touch $@ .venv/local.stamp

.venv/browser.stamp: .venv/dev.stamp requirements/browser.txt
	@$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/browser.txt
	@touch $@
