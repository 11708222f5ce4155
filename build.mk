# Build, validation and lint of the bundle; included by the Makefile.
# PYTHON is the project's interpreter; BUILD_ENV may name a target that makes it.
PYTHON ?= .venv/bin/python
ARCHITECTURE ?= arm64

.PHONY: build build-local validate lint-template deploy-check

build: | $(BUILD_ENV) ## Validate and build the bundle for AWS with `sam build` (ARCHITECTURE=arm64 or x86_64)
	@$(PYTHON) -m tools.build deploy --architecture $(ARCHITECTURE)

build-local: | $(BUILD_ENV) ## Build the bundle for this machine, to .aws-sam/local
	@$(PYTHON) -m tools.build local

validate: | $(BUILD_ENV) ## Validate and lint template.yaml with the SAM CLI
	@$(PYTHON) -m tools.validate

lint-template: | $(BUILD_ENV) ## Lint the transformed template with cfn-lint and checkov
	@$(PYTHON) -m tools.lint_template

deploy-check: build ## Deploy the built bundle for real, to a CloudFormation on this machine
	@$(PYTHON) -m tools.deploy_check
