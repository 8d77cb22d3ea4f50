# SPDX-License-Identifier: Apache-2.0
# Entry points. Every recipe is a short list of commands that can also be run by hand.

.PHONY: help testbed test test-4.9 setup lint docs clean

VENV ?= .venv
export SENTINEL_LINUX_4_9
BIN := $(VENV)/bin

help:
	@echo 'make testbed   set up, train in a two-node machine, print a report'
	@echo 'make test      lint, documentation, unit tests, and tests in virtual machines'
	@echo 'make test-4.9  the tests in virtual machines on Linux 4.9 (SENTINEL_LINUX_4_9: its source)'
	@echo 'make setup     install Debian packages and the Python environment'
	@echo 'make lint      run the linters'
	@echo 'make docs      build the documentation into .tox/site'
	@echo 'make clean     remove the Python environment (caches: sentinel cache prune --all)'

testbed: setup
	$(BIN)/sentinel doctor
	$(BIN)/sentinel kernel build
	$(BIN)/sentinel image build
	$(BIN)/sentinel run experiments/suites/first.yaml

test: setup
	$(BIN)/tox run -e lint,docs,unit
	$(BIN)/tox run -qq -e vm

test-4.9: setup
	@test -n "$$SENTINEL_LINUX_4_9" || { echo 'error: no Linux 4.9 source'; \
	  echo ' hint: make test-4.9 SENTINEL_LINUX_4_9=a tree, a tarball, or REPOSITORY@COMMIT'; exit 2; }
	$(BIN)/tox run -qq -e vm-4.9

lint: setup
	$(BIN)/tox run -e lint

docs: setup
	$(BIN)/tox run -qq -e docs
	@echo 'open .tox/site/index.html'

setup:
	@testbed/setup $(VENV)

clean:
	rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache
