# What one does with this repository; `make help` lists it. Needs git, make and Python 3.11 or newer.

VENV ?= .venv
IN_VENV = $(VENV)/bin/
KILLS ?= 1000
REQUESTS ?= 20000
DATABASES ?= postgresql mariadb
EXTRAS = asgi,django,drf,jwt,otlp,otlp-grpc,postgresql,rtl

.DEFAULT_GOAL := help
.PHONY: help demo test engines e2e-docker faults lint bench clean python docker

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 19

demo: $(VENV)/demo.stamp ## run the demo shop and show its audit trail (ARGS=--once: and exit)
	@$(IN_VENV)python demo/run.py $(ARGS)

# A server that is not here is said and passed over (status 69), as are ARGS that name no test of a database (5).
test: $(VENV)/dev.stamp ## run the whole test suite (ARGS=… goes to pytest; DATABASES=: on SQLite alone)
	$(IN_VENV)python -m pytest $(ARGS)
	@for engine in $(DATABASES); do \
		$(IN_VENV)python -m tests.engines run $$engine -- $(IN_VENV)python -m pytest -m django_db $(ARGS); \
		case $$? in 0|5|69) ;; *) exit 1 ;; esac; \
	done

engines: | python ## build the Collector, Jaeger and Kafka that tests/e2e runs against (once, minutes)
	@"$(FOUND)" tests/e2e/engines/build.py

e2e-docker: docker $(VENV)/dev.stamp ## run the tests of Collector, Jaeger and Kafka against the compose file (needs Docker)
	@sh tests/e2e/docker.sh $(IN_VENV)python -m pytest $(ARGS)

faults: $(VENV)/dev.stamp ## kill real servers 1,000 times, stop database and collector for 20,000 requests (KILLS=… REQUESTS=…)
	OTEL_AUDIT_KILLS=$(KILLS) OTEL_AUDIT_OUTAGE_REQUESTS=$(REQUESTS) $(IN_VENV)python -m pytest -rP $(ARGS) \
		tests/faults/test_kill.py tests/faults/test_server_kills.py tests/faults/test_outage_under_load.py

lint: $(VENV)/dev.stamp ## style, types, import contracts, docstrings
	$(IN_VENV)ruff check .
	$(IN_VENV)ruff format --check .
	$(IN_VENV)mypy
	$(IN_VENV)lint-imports
	$(IN_VENV)interrogate otel_audit exporters

bench: $(VENV)/dev.stamp ## measure what an audited request, and delivering its record, costs
	$(IN_VENV)python -m benchmarks $(ARGS)

clean: ## remove everything that these targets have made
	rm -rf .venv demo/var build dist htmlcov .coverage .coverage.* audit-report.pdf
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ── the virtual environment: made once, again when pyproject.toml has changed ───────────────────

$(VENV)/demo.stamp: pyproject.toml | python
	$(call install,jwt,--group demo)

$(VENV)/dev.stamp: pyproject.toml | python
	$(call install,$(EXTRAS),--group test --group lint)

# One pip resolve: the OpenTelemetry packages pin one another, so a second one could break the set.
define install
	@echo "Installing into $(VENV) (once, about a minute) …"
	@$(IN_VENV)python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		"$(FOUND)" -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV)
	@$(IN_VENV)python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(IN_VENV)python -m pip install --quiet --editable '.[$(1)]' $(2)
	@touch $@
endef

python: # one line that says what to install, before anything is tried
	$(eval FOUND := $(shell sh demo/python.sh '$(PYTHON)'))
	$(if $(filter error:,$(firstword $(FOUND))),$(error $(wordlist 2,99,$(FOUND))))
	@:

docker: # the same for what make e2e-docker needs
	$(if $(shell docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 && echo there),,$(error \
		'docker info' or 'docker compose version' fails; install and start Docker with Compose, or take make engines test))
	@:
