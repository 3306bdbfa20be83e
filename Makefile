# Two commands for a newcomer: `make demo` and `make test`. Both set everything up in .venv first.
# `make bench DATA=zsre.json` measures how fast edits, look-ups and answers are; nothing else should run meanwhile.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The release that the tests ran with; set TORCH= to another one, or to nothing to keep what is installed.
TORCH ?= torch==2.13.0

.PHONY: demo test check docs bench setup clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH),$(BIN)/python -m pip install --quiet $(TORCH))
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/horen demo

test: setup
# In the files' order: the real models, which take longest, come first.
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pages in docs/ as a site, which follows each change of them.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

SPEED := benchmarks/results/speed

bench: setup
	@test -f "$(DATA)" || { echo "Name a ZsRE file with MEND's fields: make bench DATA=zsre.json" >&2; exit 2; }
	mkdir -p $(SPEED)
	$(BIN)/python benchmarks/edit_speed.py --data $(DATA) --out $(SPEED)/editing.json
	$(BIN)/python benchmarks/retrieval.py exact --out $(SPEED)/retrieval.json
	$(BIN)/python benchmarks/retrieval.py approximate --keys 1000000 --out $(SPEED)/approximate.json
	$(BIN)/python benchmarks/retrieval.py million --out $(SPEED)/million.json
	$(BIN)/python benchmarks/starting.py --out $(SPEED)/starting.json
	$(BIN)/python benchmarks/inference.py --out $(SPEED)/inference.json

clean:
	rm -rf $(VENV)
