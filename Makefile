# Parley: install, run, test. `make` lists the targets.

PORT ?= $(or $(PARLEY_PORT),8000)
PROFILE ?= $(or $(PARLEY_PROFILE),light)
# Extras of pyproject.toml to install, separated by commas: make install EXTRAS=f5,otel
EXTRAS ?=
# The first of the five metrics ports, one for each service; 0: no metrics. `make observe` scrapes them.
METRICS_PORT ?= $(or $(PARLEY_METRICS_PORT),9464)

# Time that `make fuzz` spends on each of its targets.
SECONDS_EACH ?= 60
# What `make chaos` kills, and when, follows from this number.
SEED ?= 1
# Duration of `make soak`.
MINUTES ?= 10

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# pip takes seconds even if nothing has changed. These files record the last installation.
RUN_INSTALLED := .venv/.installed-run
LIGHT_INSTALLED := .venv/.installed-light
NEURAL_INSTALLED := .venv/.installed-neural
DEV_INSTALLED := .venv/.installed-dev

# Where `make check` looks for the phrases of docs/plain-english.txt.
PROSE := shared services deploy benchmarks dashboards docs tests *.md

.PHONY: help install run observe test test-fast check bench chaos load soak fuzz clean programs
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

comma := ,
# The extras that depend on torch.
NEURAL_EXTRAS := neural speech japanese chinese voxtral omni f5
NEEDS_TORCH := $(filter neural,$(PROFILE))$(filter $(NEURAL_EXTRAS),$(subst $(comma), ,$(EXTRAS)))

OF_PROFILE := $(if $(filter neural,$(PROFILE)),$(NEURAL_INSTALLED),$(if $(filter light,$(PROFILE)),$(LIGHT_INSTALLED),$(RUN_INSTALLED)))

install: $(if $(NEEDS_TORCH),$(NEURAL_INSTALLED),$(OF_PROFILE)) ## install into .venv (PROFILE=neural EXTRAS=f5,otel)
	$(if $(EXTRAS),$(INSTALL) -e '.[$(EXTRAS)]')

run: $(OF_PROFILE) ## install and start Parley, and print the URL of its page (PORT=8000 PROFILE=light)
	@exec env PARLEY_METRICS_PORT="$(METRICS_PORT)" $(BIN)/parley up --port "$(PORT)" --profile "$(PROFILE)"

observe: $(RUN_INSTALLED) ## run Prometheus and Alertmanager beside make run, with Parley's alert rules
	@exec env PARLEY_METRICS_PORT="$(METRICS_PORT)" $(BIN)/parley observe

# Twice as many processes as cores: most tests wait for people who speak in real time, and for models that stream.
test: $(DEV_INSTALLED) programs ## run all tests
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

test-fast: $(DEV_INSTALLED) programs ## run the unit tests that load no models
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'not models' tests/unit

check: $(DEV_INSTALLED) ## check lint, formatting, types, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict shared services deploy benchmarks dashboards tests/support
	$(BIN)/lint-imports
	$(BIN)/python -m dashboards --check
	$(BIN)/python -m deploy.settings_docs --check
	@! grep -rnEf docs/plain-english.txt --include='*.py' --include='*.md' --include='*.js' --include='*.html' --exclude=CHANGELOG.md $(PROSE) \
	    || { echo "Write these sentences plainly: see CONTRIBUTING.md" >&2; exit 1; }

bench: $(RUN_INSTALLED) ## measure the latency, CPU and memory of the pipeline, without models
	$(INSTALL) -e '.[bench]'
	$(BIN)/parley bench pipeline

load: $(RUN_INSTALLED) ## load an edge up to refusal and back, and show what another caller notices
	$(INSTALL) -e '.[bench]'
	$(BIN)/parley bench load

chaos: $(RUN_INSTALLED) ## kill workers and edges under talking sessions, 200 times in 20 minutes (SEED=1)
	$(INSTALL) -e '.[bench]'
	$(BIN)/parley bench chaos --seed "$(SEED)"

fuzz: $(DEV_INSTALLED) ## give arbitrary input to protocols, files and broker (SECONDS_EACH=60)
	$(INSTALL) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds "$(SECONDS_EACH)"

soak: $(RUN_INSTALLED) ## let sessions come and go, and fail if anything grows (MINUTES=10)
	$(INSTALL) -e '.[bench]'
	$(BIN)/parley bench soak --minutes "$(MINUTES)"

clean: ## remove .venv and all build files
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

programs:
	@tests/programs.sh

$(RUN_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv. The first time takes a minute."
	$(INSTALL) -e .
	@touch $@

$(LIGHT_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv. The first time takes a minute."
	$(INSTALL) -e '.[light]'
	@touch $@ $(RUN_INSTALLED)

# torch first and alone: packages that depend on it must not select another build of it.
$(NEURAL_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv, with torch and transformers. The first time takes some minutes."
	$(INSTALL) torch
	$(INSTALL) -e '.[neural]'
	@touch $@ $(RUN_INSTALLED)

$(DEV_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv, with everything that the tests need. The first time takes some minutes."
	$(INSTALL) torch
	$(INSTALL) -e '.[dev]'
	@touch $@ $(LIGHT_INSTALLED) $(RUN_INSTALLED)

$(BIN)/python:
	@for python in python3.11 python3 python3.14 python3.13 python3.12; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        "$$python" -m venv .venv && exit 0; \
	        rm -rf .venv; \
	        echo "$$python cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "No Python 3.11 or newer found. Install one and run make again." >&2; exit 1
