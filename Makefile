# What can be done here; `make` alone says it. Everything runs in .venv, which is made when it is missing or out of date.
# ARGS goes to the program behind a target: make run ARGS="--port 7000", make test ARGS="-k expire"

PYTHON ?= python3
ROUNDS ?= 50
SECONDS ?= 300
SOAK_SECONDS ?= 300
PYTHONS ?= 3.10 3.11 3.12 3.13 3.14
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check
# Two tests a core, since most of them wait for servers.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PYTEST := -m pytest -n auto --dist worksteal

# Left to one Python: they mostly wait, and what could differ between versions is tested by others as well.
SLOW_TESTS := tests/process tests/against_redis tests/package tests/applications tests/project/test_bench.py tests/project/test_readme.py tests/cli/test_program.py \
	tests/net/test_listener.py tests/net/test_hostile_clients.py tests/log/test_power_loss.py \
	tests/log/test_power_loss_replies.py tests/pool/test_balancer.py tests/pool/test_etcd_cluster.py \
	tests/pool/test_pool.py tests/pool/test_pool_faults.py tests/pool/test_pool_load.py

.DEFAULT_GOAL := help
.PHONY: help run test lint format check soak soak-pool fuzz test-pythons test-applications test-containers bench bench-all docs clean

help: ## say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## serve on 127.0.0.1:6379, with log.txt here
	$(PY) godis.py $(ARGS)

test: $(VENV)/test.stamp ## run the tests
	$(PY) $(PYTEST) $(ARGS)

lint: $(VENV)/test.stamp ## check format, style and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy .
	cd package && ../$(PY) -m mypy --config-file ../pyproject.toml godis

format: $(VENV)/test.stamp ## bring the code into its format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

check: lint test ## lint and test, as CI does first

soak: $(VENV)/test.stamp ## kill, spoil, load and compare for long: make soak ROUNDS=200 SOAK_SECONDS=300
	GODIS_SOAK=$(ROUNDS) GODIS_SOAK_SECONDS=$(SOAK_SECONDS) GODIS_SEED=$$(date +%s) $(PY) -m pytest --timeout 0 \
		tests/process/test_kill.py tests/process/test_kill_in_exec.py tests/process/test_faults.py \
		tests/process/test_soak.py tests/log/test_power_loss.py tests/against_redis/test_against_redis.py tests/net/test_hostile_clients.py \
		tests/commands/test_effects.py tests/keyspace/test_all_types.py \
		tests/cli/test_command_line_fuzz.py $(ARGS)

soak-pool: $(VENV)/test.stamp ## break each part of a pool so many times, under load: make soak-pool ROUNDS=20
	GODIS_SOAK=$(ROUNDS) GODIS_SEED=$$(date +%s) $(PY) -m pytest tests/pool/test_pool_faults.py tests/project/test_bench.py $(ARGS)

fuzz: $(VENV)/fuzz.stamp ## throw made-up input at parsers, logs and a server: make fuzz SECONDS=3600
	cd tests/support && PYTHONPATH=../..:. ../../$(PY) -m fuzzing $(SECONDS) $(ARGS)

test-pythons: $(VENV)/test.stamp ## run the tests under each other Python of PYTHONS that the machine has
	PYTHONPATH=tests/support $(PY) -m rig.pythons $(PYTHONS) $(PYTEST) $(SLOW_TESTS:%=--ignore %) $(ARGS)

test-applications: $(VENV)/applications.stamp ## install the packages of others whose applications are tested, and test them
	$(PY) $(PYTEST) tests/applications $(ARGS)
	GODIS_TEST_DEFAULT_TTL=0 $(PY) $(PYTEST) tests/applications $(ARGS)

test-containers: $(VENV)/containers.stamp ## test the image and the pool on a real container engine (root, Debian)
	GODIS_TEST_CONTAINERS=1 $(PY) -m pytest tests/containers $(ARGS)

bench: $(VENV)/test.stamp ## compare with redis-server: all that has a floor, in twenty minutes
	$(PY) -m bench $(ARGS)

bench-all: $(VENV)/bench.stamp ## all that can be measured, in an hour or two
	$(PY) -m bench --all $(ARGS)

docs: $(VENV)/run.stamp ## write docs/commands.md from the table of commands, and the README's picture and table of speed
	$(PY) docs/make_commands.py
	$(PY) docs/make_speed.py

clean: ## remove what the targets made; log.txt stays
	rm -rf $(VENV) .make .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("$(PYTHON) is Python %d.%d, and \
	Godis needs 3.10 or newer: make … PYTHON=python3.11, say" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

$(VENV)/fuzz.stamp: $(VENV)/test.stamp tests/support/fuzzing/requirements.txt
	$(PIP) -r tests/support/fuzzing/requirements.txt
	touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp bench/requirements.txt
	$(PIP) -r bench/requirements.txt
	touch $@

$(VENV)/applications.stamp: $(VENV)/test.stamp $(addprefix tests/applications/,requirements.txt redis-py-5.txt programs/package.json)
	$(PIP) -r tests/applications/requirements.txt
	$(PIP) --no-warn-conflicts --target $(VENV)/redis-py-5 --upgrade -r tests/applications/redis-py-5.txt
	@mkdir -p $(VENV)/node && cp tests/applications/programs/package.json $(VENV)/node
	! command -v npm >/dev/null || npm install --prefix $(VENV)/node --no-package-lock --no-audit --no-fund --silent --ignore-scripts
	touch $@

$(VENV)/containers.stamp: $(VENV)/test.stamp tests/containers/requirements.txt
	$(PIP) -r tests/containers/requirements.txt
	touch $@
