# Parley: install, run, check, test. `make` alone says what there is.

PORT ?= $(or $(PARLEY_PORT),8000)
PROFILE ?= $(or $(PARLEY_PROFILE),classic)
# Optional parts of pyproject.toml to install, separated by commas: make install EXTRAS=f5,otel
EXTRAS ?=
# The first of five ports, one for each service; 0: none. `make observe` looks there.
METRICS_PORT ?= $(or $(PARLEY_METRICS_PORT),9464)

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Installing again takes seconds even where nothing has changed: these files say when it was done.
RUN_INSTALLED := .venv/.installed-run
NEURAL_INSTALLED := .venv/.installed-neural
DEV_INSTALLED := .venv/.installed-dev

.PHONY: help install run observe test test-fast check bench clean programs
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

comma := ,
# The extras that install torch, too.
NEURAL_EXTRAS := neural speech japanese chinese voxtral omni f5
NEEDS_TORCH := $(filter neural,$(PROFILE))$(filter $(NEURAL_EXTRAS),$(subst $(comma), ,$(EXTRAS)))

install: $(if $(NEEDS_TORCH),$(NEURAL_INSTALLED),$(RUN_INSTALLED)) ## install only (PROFILE=neural EXTRAS=f5,otel)
	$(if $(EXTRAS),$(INSTALL) -e '.[$(EXTRAS)]')

run: $(if $(filter neural,$(PROFILE)),$(NEURAL_INSTALLED),$(RUN_INSTALLED)) ## start Parley and print the URL of its page (PORT=8000 PROFILE=classic)
	@if [ "$(PROFILE)" = neural ]; then PARLEY_PROFILE=neural $(BIN)/parley models pull; fi
	@exec env PARLEY_METRICS_PORT="$(METRICS_PORT)" $(BIN)/parley up --port "$(PORT)" --profile "$(PROFILE)"

observe: $(RUN_INSTALLED) ## beside make run: Prometheus with our alert rules, and Alertmanager, where installed
	@exec env PARLEY_METRICS_PORT="$(METRICS_PORT)" $(BIN)/parley observe

test: $(DEV_INSTALLED) programs ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-fast: $(DEV_INSTALLED) programs ## run the unit tests, but for those that load models
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not models' tests/unit

check: $(DEV_INSTALLED) ## lint, formatting, types, who imports whom, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict shared services deploy benchmarks dashboards tests/support
	$(BIN)/lint-imports
	$(BIN)/python -m dashboards --check
	$(BIN)/python -m deploy.settings_docs --check

bench: $(RUN_INSTALLED) ## measure what the pipeline itself costs
	$(INSTALL) -e '.[bench]'
	$(BIN)/parley bench pipeline

clean: ## remove what was installed and built here
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests need a browser for the page, a Redis beside the Valkey in the wheel, and what reads our metrics and rules.
# Without them they say so; in CI they fail. Debian starts the last three as services of the machine, too.
PROGRAMS := chromium chromedriver redis-server prometheus promtool prometheus-alertmanager amtool
PACKAGES := chromium chromium-driver redis-server prometheus prometheus-alertmanager
programs:
	@missing=""; for program in $(PROGRAMS); do command -v "$$program" >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	    echo "Some tests need more programs on the PATH:$$missing; there is no apt-get to install them." >&2; \
	    exit 0; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; \
	elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	else \
	    echo "Some tests need more programs: sudo apt-get install $(PACKAGES)" >&2; \
	    exit 0; \
	fi; \
	$$as_root apt-get update -qq && \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES)

$(RUN_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into .venv (the first time takes a minute)"
	$(INSTALL) -e .
	@touch $@

# torch first and alone: what depends on it must not choose another build of it.
$(NEURAL_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into .venv, with what runs models (the first time takes some minutes)"
	$(INSTALL) torch
	$(INSTALL) -e '.[neural]'
	@touch $@ $(RUN_INSTALLED)

$(DEV_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into .venv, with what the tests need"
	$(INSTALL) torch
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps silero-vad # only its model is used, and that without the torch that the package asks for
	@touch $@ $(RUN_INSTALLED)

$(BIN)/python:
	@for python in python3.11 python3 python3.14 python3.13 python3.12; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        "$$python" -m venv .venv && exit 0; \
	        rm -rf .venv; \
	        echo "$$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "Python 3.11 or newer is needed." >&2; exit 1
