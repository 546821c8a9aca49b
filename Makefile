# PatchPlan. `make demo` shows the main job, `make test` checks everything, `make up` serves.
#
#   make demo [HR=path.tif]   the main job over HTTP, on real imagery or on your own HR GeoTIFF
#   make up                   serve on 127.0.0.1:8000 until Ctrl-C; data stays in .patchplan/
#   make test                 format, lint, types, borders, all tests but the slow ones
#   make test-full            everything
#   make lint | format        the static checks | rewrite the files as they want them
#   make pins                 take the newest versions of everything into constraints.txt
#
# Every target installs what it needs into .venv first, once. On a machine with a GPU, or with another torch:
#   make CONSTRAINTS=constraints.txt demo

PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
VENV ?= .venv
CONSTRAINTS ?= constraints-cpu.txt
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.patchplan-installed

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-full lint format types borders pins clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "PatchPlan needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	@touch $@

demo: $(STAMP)
	@$(BIN)/patchplan demo $(if $(HR),--hr "$(HR)")

up: $(STAMP)
	@exec $(BIN)/patchplan up

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

borders: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One thread a process: JOBS processes share the cores. Each has a PostgreSQL and a Valkey of its own.
test: lint types borders
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(JOBS) --dist loadfile

# The server that a test of the experiment trackers talks to: too large for .venv
MLFLOW := .venv-mlflow/bin/mlflow

$(MLFLOW):
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check 'mlflow>=2.20'

test-full: lint types borders $(MLFLOW)
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=full $(BIN)/pytest -n $(JOBS) --dist loadfile

pins:
	$(PYTHON) -m venv --clear out/pins
	grep == constraints-cpu.txt > out/pins/torch.txt
	out/pins/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c out/pins/torch.txt
	{ head -1 constraints.txt; out/pins/bin/python -m pip freeze --exclude-editable | grep -vE '^(torch|torchvision|nvidia-.*|cuda-.*|triton)=='; } > out/pins/new.txt
	mv out/pins/new.txt constraints.txt

clean:
	rm -rf build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
