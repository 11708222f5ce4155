# Build, validation and lint of the bundle; a part of the Makefile.
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
