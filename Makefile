# Every verb works in a fresh clone: each first makes .venv, or refreshes it when the packaging files have changed.
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTHON ?= python3
ARGS   ?=

export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help install lock demo test smoke docs bench clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make the virtual environment .venv, or refresh it (LOCKED=1: as in requirements.lock)
	@echo "Ready: $(BIN)/leadlag --help"

$(STAMP): settings.ini setup.py pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "leadlag needs Python 3.11 or newer; name one, as in: make install PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --config-settings editable_mode=compat $(if $(LOCKED),-c requirements.lock) -e ".[dev,test]"
	@touch $@

lock: $(STAMP) ## write the versions that are installed now into requirements.lock
	$(BIN)/python .ci/lock.py

demo: $(STAMP) ## both pipelines and the report worth opening (some minutes)
	$(BIN)/leadlag study --overwrite $(ARGS)

test: $(STAMP) ## every notebook and every test, files side by side (ARGS="-k word" for some)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

smoke: $(STAMP) ## the commands of the plan and the benchmarks of policies at reduced counts, in a temporary folder
	bash tests/smoke.sh "$(CURDIR)/$(BIN)"

docs: $(STAMP) ## build the site into _docs from the executed notebooks
	@echo "some two minutes; the notebooks are shown as they were committed, not run"
	$(BIN)/python docs/build.py

bench: $(STAMP) ## measure all that is claimed of speed, others beside it (20 minutes)
	$(BIN)/leadlag bench speed --overwrite $(ARGS)

clean: ## remove what the verbs made, except .venv and results
	rm -rf _docs _proc build dist leadlag.egg-info .pytest_cache tests/output
	find leadlag nbs tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
