# Needs Python 3.11 or later and make. Everything is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 1
INSTALL := pip install -q --disable-pip-version-check
PYTEST := $(BIN)/pytest -q
PARALLEL := -n 2 --dist loadfile
SUITES := unit integration security e2e

.PHONY: help demo up test $(SUITES) soak lint types layers compat docs lock clean test-torch test-frameworks bench-torch bench-sdk bench-packs

help: ## this list
	@sed -nE 's/^([a-z%-]+):.*## (.*)/make \1 \2/p' $(MAKEFILE_LIST) | awk '{ printf "%-6s %-16s", $$1, $$2; $$1 = $$2 = ""; print }'
	@grep -l __main__ benchmarks/*.py | sed -E 's,benchmarks/(.*)\.py,bench-\1,' | tr _ - | xargs -n 6 echo "           "

demo: $(VENV)/.demo ## start everything, train twice, read back, stop
	$(BIN)/python examples/demo.py

up: $(VENV)/.demo ## the same stack left running, until Ctrl-C
	$(BIN)/runfold up

test: $(SUITES) ## the whole test suite, on real services

$(SUITES): $(VENV)/.dev
	$(PYTEST) tests/$@ $(PARALLEL) $(if $(filter e2e,$@),--durations=15)

soak: $(VENV)/.dev ## the long form of the laws and fault tests; SEED=n repeats one
	RUNFOLD_SOAK=1 RUNFOLD_SEED=$(SEED) $(PYTEST) $(SUITES:%=tests/%) -m soak -s --timeout 7200

lint: $(VENV)/.dev types layers compat ## format, lint, types, import layers, schema compatibility
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/deptry .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

compat: $(VENV)/.dev
	$(BIN)/python -m runfold_schemas.codec.compat

docs: $(VENV)/.dev ## write docs/reference.md, docs/api.md and the OpenAPI and AsyncAPI documents
	$(BIN)/python -m runfold_stack.reference.pages

bench-sdk: $(VENV)/.dev bench-light-client bench-sdk-latency
bench-packs: $(VENV)/.dev bench-segments
bench-volume: ARGS = all

bench-%: $(VENV)/.demo ## run benchmarks/%.py with ARGS; these are:
	$(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

# PyTorch is too large for every machine, and Debian's needs NumPy before 1.25: its tests and its benchmark run in an
# environment of their own, on the PyTorch of TORCH_PYTHON.
TORCH_PYTHON ?= /usr/bin/python3
TORCH := .bench/torch/.installed

test-torch: $(VENV)/.dev $(TORCH) ## torchrun that loses a rank, PyTorch models; needs Debian's python3-torch, or TORCH_PYTHON
	$(PYTEST) tests/pytorch

bench-torch: $(VENV)/.demo $(TORCH) ## what logging costs a PyTorch training loop; needs the same
	$(BIN)/python benchmarks/torch_loop.py

$(TORCH): requirements/client.txt requirements/torch.txt pyproject.toml
	@$(TORCH_PYTHON) -c 'import torch.distributed.run' || { echo "no PyTorch in $(TORCH_PYTHON): apt-get install python3-torch python3-venv, or set TORCH_PYTHON"; exit 1; }
	$(TORCH_PYTHON) -m venv --system-site-packages .bench/torch
	.bench/torch/bin/$(INSTALL) --require-hashes -r requirements/client.txt -r requirements/torch.txt
	printf '%s\n' $(CURDIR)/schemas $(CURDIR)/log $(CURDIR)/producers > $$(.bench/torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/runfold.pth
	touch $@

FRAMEWORKS := .bench/frameworks/.installed

test-frameworks: $(VENV)/.dev $(FRAMEWORKS) ## trainings under MLflow's integrations and real launchers; installs 7 GB into .bench
	$(PYTEST) tests/frameworks

# Runfold is installed as a package, since MLflow finds the plugin by its entry points. MPICH has an environment of its
# own: its programs have the names of Open MPI's, which is among the frameworks.
$(FRAMEWORKS): requirements/client.txt requirements/frameworks.txt requirements/build.txt requirements/mpich.txt pyproject.toml
	$(PYTHON) -m venv .bench/frameworks
	.bench/frameworks/bin/$(INSTALL) --require-hashes -r requirements/client.txt -r requirements/frameworks.txt -r requirements/build.txt
	.bench/frameworks/bin/$(INSTALL) --no-deps --no-build-isolation -e .
	$(PYTHON) -m venv .bench/mpich
	.bench/mpich/bin/$(INSTALL) --require-hashes -r requirements/mpich.txt
	touch $@

# Pins with hashes and without the address of an index. Run after a change of dependencies.
PIN := $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
MLFLOW = $$(sed -n "s/^mlflow-skinny==\([0-9.]*\).*/\1/p" requirements/dev.txt)
lock: $(VENV)/.dev ## pin the dependencies again
	$(BIN)/pip install -q uv
	$(PIN) pyproject.toml --extra server --extra embedded --extra export --group dev --upgrade -o requirements/dev.txt
	$(PIN) pyproject.toml --extra server --extra embedded --group demo -c requirements/dev.txt -o requirements/demo.txt
	$(PIN) pyproject.toml --extra server -c requirements/dev.txt -o requirements/server.txt
	$(PIN) pyproject.toml -c requirements/dev.txt -o requirements/client.txt
	echo hatchling | $(PIN) - -c requirements/dev.txt -o requirements/build.txt
	printf "mlflow==$(MLFLOW)\npsycopg2-binary\n" | $(PIN) - -o requirements/bench-mlflow.txt
	printf "mlflow-skinny==$(MLFLOW)\npandas<2.3\nnumpy<1.25\n" | $(PIN) - -c requirements/client.txt -o requirements/torch.txt
	printf "mlflow==$(MLFLOW)\ntorch\nlightning\ntransformers\naccelerate\nxgboost\nmpi4py\nopenmpi\n" | $(PIN) - -c requirements/client.txt -o requirements/frameworks.txt
	echo mpich | $(PIN) - -o requirements/mpich.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Runfold needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Installed without build isolation: the build backend is pinned like everything else.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: requirements/%.txt $(VENV)/bin/python pyproject.toml
	$(BIN)/$(INSTALL) --require-hashes -r $<
	$(BIN)/$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.demo

clean: ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
