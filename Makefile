# Needs make, a C compiler and Python 3.11 or newer with venv; everything else is fetched, each file checked against a
# lock. Paths are relative, so the checkout may lie in a folder with spaces in its name.

# The first one that is new enough. To choose another: make run PYTHON=/opt/python3.13/bin/python3
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Servers live in sbin, which a plain user's PATH may leave out.
export PATH := $(PATH):/usr/sbin:/sbin

PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

# soup itself is installed editable by the hatchling of the lock: pip's own isolated build would fetch one unpinned.
define INSTALL
@echo "installing $< into .venv"
@$(PIP) install --require-hashes -r $<
@$(PIP) install --no-deps --no-build-isolation -e .
endef

# Tests mostly wait for servers: two processes more than there are cores. Files stay together, for what they share.
# What fails beside others is asked once more alone, and said twice: some bounds are tight for a machine that does
# four things at once.
define PYTEST
.venv/bin/pytest $(1) -n $(shell expr $$(nproc) + 2) --dist loadfile --no-loadscope-reorder || \
	.venv/bin/pytest $(1) --last-failed --last-failed-no-failures none
endef

define LINT
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
endef

.PHONY: help run test test-postgresql test-long test-whole test-images lint rows lock bench bench-quick bench-pick bench-fleet bench-reports soak clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

run: .venv/installed ## set up what is missing and serve on port 8080
	@exec .venv/bin/soup serve

test: .venv/installed-dev ## set up what tests need, run the linters, then every test, those about rows on both databases
	tests/setup-system
	$(LINT)
	$(call PYTEST)
	$(call PYTEST,--database postgresql)

test-postgresql: .venv/installed-dev ## every test that starts a soup, on PostgreSQL alone
	tests/setup-system
	$(call PYTEST,--database postgresql)

test-long: .venv/installed-dev ## the feed of 24 and of 8 writers for 20 s, and 200 uploads at once, 20 GiB in all
	tests/setup-system
	.venv/bin/pytest --long --database postgresql tests/whole/test_feed.py
	.venv/bin/pytest --long tests/whole/test_feed.py
	.venv/bin/python -m bench.soak

# Not beside each other as in `make test`: what is measured here is how long things take.
test-whole: .venv/installed-dev ## whole systems for as long as a full proof takes: mirrors, their agents, and what befalls them
	tests/setup-system
	$(call PYTEST,--long tests/whole tests/cdn_agent)
	@if timeout 20 docker info >/dev/null 2>&1; then .venv/bin/pytest --long -s tests/images/test_faults.py; else \
		echo "NOT TESTED: whole systems on networks of their own, because no Docker engine answers here" >&2; fi

# Needs a Docker engine with Compose 1.29 or 2; where no registry answers, root and a Debian mirror too (.ci/stand-ins).
# With SOUP_TEST_KEEP_IMAGES=1 images stay, and the next run is quick.
test-images: .venv/installed-dev ## build all images and run compose.yaml, a few minutes; nothing of it is left afterwards
	tests/setup-system curl
	.venv/bin/pytest tests/images -s

lint: .venv/installed-dev ## ruff and mypy alone
	$(LINT)

rows: .venv/installed-dev ## which test keeps which promise
	@.venv/bin/python -m tests.rows

# Runtime after development, starting from its versions: both agree, and only what pyproject.toml asks for moves.
# For newer versions: make lock UPGRADE=--upgrade
lock: COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --group build $(UPGRADE) pyproject.toml
lock: ## write the three lock files anew from pyproject.toml (the one target that needs uv)
	$(COMPILE) --group dev -o requirements-dev.lock
	cp requirements-dev.lock requirements.lock
	$(COMPILE) -o requirements.lock
	cp requirements-dev.lock cdn-agent/requirements.lock
	$(COMPILE:pyproject.toml=cdn-agent/pyproject.toml) -o cdn-agent/requirements.lock

bench: .venv/installed-dev ## every figure beside nginx and others, half an hour: a table, and bench/results/ with plots
	tests/setup-system nginx wrk postgres curl docker-registry
	.venv/bin/python -m bench $(ROWS)

bench-quick: .venv/installed-dev ## the short rows of it in three minutes, a line each
	tests/setup-system nginx wrk postgres
	.venv/bin/python -m bench.quick $(ROWS)

bench-pick: .venv/installed-dev ## a pick among 10,000 mirrors, as a ratio to one among 10
	.venv/bin/python -m bench.pick

bench-fleet: .venv/installed-dev ## an agent beside rsync, and its memory with 100,000 blobs and with one of 5 GiB
	tests/setup-system nginx rsync
	.venv/bin/python -m bench.fleet

bench-reports: .venv/installed-dev ## 1,000 reports a second on PostgreSQL, beside redirects, on one core
	tests/setup-system wrk postgres
	.venv/bin/python -m bench.reports

soak: .venv/installed-dev ## 200 uploads at once, 20 GiB in all, with an eye on memory
	.venv/bin/python -m bench.soak

clean: ## remove what make and the tools made; data stays
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	find . -name soup-data -prune -o -name __pycache__ -prune -exec rm -rf {} +

# A stamp is younger than its lock and pyproject.toml, or make installs again; a second start only looks at dates.
.venv/installed: requirements.lock pyproject.toml | .venv/bin/pip
	$(INSTALL)
	@touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml cdn-agent/pyproject.toml | .venv/bin/pip
	$(INSTALL)
	@$(PIP) install --no-deps --no-build-isolation -e ./cdn-agent
	@touch $@ .venv/installed

.venv/bin/pip:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv," \
		"or say where one is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) does not run or is older than Python 3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { package=$$(basename "$(PYTHON)")-venv; \
		echo "$$package is missing: apt-get install $$package" >&2; exit 1; }
	@"$(PYTHON)" -m venv .venv
