# `make test` sets up all it needs, lints, and runs every test, on real machines too (root or sudo).
PY := .venv/bin/python
SHELL := /bin/bash

.PHONY: test unit lint docs lock pins venv bench-release bench-group faults

# KINDS=all tries each process manager and guide, where one stands for the others.
export KINDS
# Options of pytest for the unit tests.
UNIT ?=

test: lint
	./rehearse setup debian12 debian13 centos7 alinux3
	$(PY) -m pytest tests/unit -n 2 $(UNIT)
	$(PY) -m pytest tests/rehearsal -n 3 --dist loadfile --no-loadscope-reorder # they wait for machines more than they compute

unit: venv
	$(PY) -m pytest

lint: venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/shellcheck rehearse stack machine/run.sh .ci/run .ci/bare-tests .ci/audit
	.venv/bin/vermin --no-tips --violations -t=3.6- machine contract operations/on-server
	$(PY) -m bandit --quiet --severity-level medium --configfile pyproject.toml --recursive \
	    __main__.py components contract inspection kinds machine operations policy reference rehearsal schema serving settings
	.ci/audit

faults: venv # docs/faults.md, on real machines; FAULTS: options of tests/bench/faults.py
	$(PY) -m tests.bench.faults $(FAULTS)

bench-release: venv # docs/releases.md, on real machines; BENCH: options of tests/bench/releases.py
	$(PY) -m tests.bench.releases $(BENCH)

bench-group: venv # docs/releases.md, a scaling group on real machines; BENCH: options of tests/bench/group.py
	$(PY) -m tests.bench.group $(BENCH)

docs: venv # docs/settings*.md, from the models and the program
	GOLDEN=write $(PY) -m pytest -q tests/unit/test_reference.py

venv:
	./rehearse --help >/dev/null
	@if [ "$$(cat .venv/dev.sha256 2>/dev/null)" != "$$(sha256sum requirements-dev.txt)" ]; then \
	    $(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt && \
	    sha256sum requirements-dev.txt >.venv/dev.sha256; fi

lock: venv
	$(PY) -m pip install --quiet pip-tools
	for f in requirements requirements-dev policy/requirements; do \
	    .venv/bin/pip-compile --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	        --strip-extras --no-header --generate-hashes -o $$f.txt $$f.in; done

pins: venv # kinds/hashes.txt: the hashes of what the servers install from the package index
	$(PY) -m reference.pins
