# SPDX-License-Identifier: Apache-2.0
# The three commands. Everything they do is done by small programs one can also run by hand.

.PHONY: help testbed test test-4.9 setup lint docs clean

VENV ?= .venv
export SENTINEL_LINUX_4_9
BIN := $(VENV)/bin

help:
	@echo 'make testbed   set everything up, train in a two-node machine, show a report'
	@echo 'make test      lint, unit tests, documentation, and one real machine'
	@echo 'make test-4.9  the same machines on Linux 4.9; SENTINEL_LINUX_4_9 names its source'
	@echo 'make setup     only install what is needed (Debian packages and a virtual environment)'
	@echo 'make lint      only the linters'
	@echo 'make docs      only the documentation, into .tox/site'
	@echo 'make clean     remove the virtual environment (caches: sentinel cache prune --all)'

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
