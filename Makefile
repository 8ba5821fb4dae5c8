# Needs Python 3.11 or later and make, nothing else. Everything is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ROOMS := schemas producers projections consumers server stack
SEED ?= 1

.PHONY: bench-as-of demo up bench-rebuild bench-sdk bench-volume bench-spine bench-tracking bench-reads bench-registry bench-packs bench-artifacts bench-torch test test-torch test-frameworks unit integration security e2e soak lint types layers compat docs lock clean help

help:
	@echo "make demo   start everything, train twice, read back, stop"
	@echo "make up     the same stack left running, until Ctrl-C"
	@echo "make test   the whole test suite, on real services"
	@echo "make lint   format, lint, types, import direction, schema compatibility"
	@echo "make soak   the fault tests and the fuzzing, longer; SEED=n repeats one"
	@echo "make bench-reads  histories in full, charts, and a run of 100,000 keys"
	@echo "make bench-rebuild  events and points a second that a rebuild folds and compares"
	@echo "make bench-search what a search of runs takes over 10,000 and 100,000 of them"
	@echo "make bench-sdk    what a log call costs the training thread, and the light client"
	@echo "make bench-volume what the whole path takes: 100 scalars a call, arrays, small runs, 1,200 wide runs"
	@echo "make bench-spine  what the spine does per second, on this machine"
	@echo "make bench-artifacts  a file of 1 GB up and down, and the server's memory"
	@echo "make test-torch  a training under torchrun that loses a rank, and PyTorch models through MLflow; needs Debian's python3-torch, or TORCH_PYTHON"
	@echo "make test-frameworks  real trainings under MLflow's integrations and real launchers; installs PyTorch and more, 7 GB, into .bench"
	@echo "make bench-torch  what logging costs a PyTorch training loop; needs the same"
	@echo "make bench-as-of  reads of the past, on a run with 10,000 events"
	@echo "make bench-packs  bytes and speed of metric points at rest"
	@echo "make bench-registry  writes to the registry beside MLflow's own server (installed into .bench)"
	@echo "make bench-tracking  beside MLflow's own server (installed into .bench)"

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

up: $(VENV)/.demo
	$(BIN)/runfold up

test: unit integration security e2e

unit: $(VENV)/.dev
	$(BIN)/pytest tests/unit -q -n 2 --dist loadfile

integration: $(VENV)/.dev
	$(BIN)/pytest tests/integration -q -n 2 --dist loadfile

security: $(VENV)/.dev
	$(BIN)/pytest tests/security -q -n 2 --dist loadfile

e2e: $(VENV)/.dev
	$(BIN)/pytest tests/e2e -q -n 2 --dist loadfile --durations=15

bench-as-of: $(VENV)/.demo
	$(BIN)/python benchmarks/as_of.py

bench-reads: $(VENV)/.demo
	$(BIN)/python benchmarks/reads.py

bench-registry: $(VENV)/.demo
	$(BIN)/python benchmarks/registry.py

bench-rebuild: $(VENV)/.demo
	$(BIN)/python benchmarks/rebuild.py

bench-packs: $(VENV)/.dev
	$(BIN)/python benchmarks/segments.py

bench-search: $(VENV)/.demo
	$(BIN)/python benchmarks/search.py

bench-tracking: $(VENV)/.demo
	$(BIN)/python benchmarks/tracking.py

bench-sdk: $(VENV)/.dev
	$(BIN)/python benchmarks/light_client.py
	$(BIN)/python benchmarks/sdk_latency.py

bench-spine: $(VENV)/.demo
	$(BIN)/python benchmarks/spine.py

bench-volume: $(VENV)/.demo
	$(BIN)/python benchmarks/volume.py all

bench-artifacts: $(VENV)/.demo
	$(BIN)/python benchmarks/artifacts.py

# PyTorch is too large for every machine, and Debian's wants NumPy before 1.25: its tests and its benchmark use one that is there, in an environment of their own.
TORCH_PYTHON ?= /usr/bin/python3
TORCH := .bench/torch/.installed

test-torch: $(VENV)/.dev $(TORCH)
	$(BIN)/pytest tests/pytorch -q

bench-torch: $(VENV)/.demo $(TORCH)
	$(BIN)/python benchmarks/torch_loop.py

$(TORCH): requirements/client.txt requirements/torch.txt pyproject.toml
	@$(TORCH_PYTHON) -c 'import torch.distributed.run' || { echo "no PyTorch in $(TORCH_PYTHON): apt-get install python3-torch python3-venv, or name another by TORCH_PYTHON"; exit 1; }
	$(TORCH_PYTHON) -m venv --system-site-packages .bench/torch
	.bench/torch/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/client.txt -r requirements/torch.txt
	printf '%s\n' $(CURDIR)/schemas $(CURDIR)/log $(CURDIR)/producers > $$(.bench/torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/runfold.pth
	touch $@

FRAMEWORKS := .bench/frameworks/.installed

test-frameworks: $(VENV)/.dev $(FRAMEWORKS)
	$(BIN)/pytest tests/frameworks -q

# Runfold is installed as a package: MLflow finds the plugin by its entry points. Open MPI is among the frameworks; MPICH has programs of the same names.
$(FRAMEWORKS): requirements/client.txt requirements/frameworks.txt requirements/build.txt requirements/mpich.txt pyproject.toml
	$(PYTHON) -m venv .bench/frameworks
	.bench/frameworks/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/client.txt -r requirements/frameworks.txt -r requirements/build.txt
	.bench/frameworks/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PYTHON) -m venv .bench/mpich
	.bench/mpich/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/mpich.txt
	touch $@

soak: $(VENV)/.dev
	RUNFOLD_SOAK=1 RUNFOLD_SEED=$(SEED) $(BIN)/pytest tests/e2e/faults/test_kills.py tests/e2e/faults/test_workers_join_and_leave.py tests/e2e/load/test_read_your_writes.py tests/e2e/load/test_many_writers.py tests/e2e/sdk/test_distributed.py tests/e2e/sdk/test_kills_under_load.py tests/e2e/load/test_rebuild.py tests/e2e/commands/test_export.py tests/integration/folding/test_state_hash.py tests/integration/folding/test_registry_history_law.py tests/integration/mlflow/test_registry_as_of_law.py tests/integration/webhooks/test_delivery_law.py tests/integration/streams/test_series_stream_once.py tests/integration/mlflow/test_fuzz.py tests/unit/projections/entities/test_registry_laws.py -q -s --timeout 7200

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m runfold_schemas.codec.compat

docs: $(VENV)/.dev
	$(BIN)/python -m runfold_stack.reference.pages

# The pins, with hashes and without the address of an index; run after a change of dependencies.
PIN := $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
lock: $(VENV)/.dev
	$(BIN)/pip install -q uv
	$(PIN) pyproject.toml --extra server --extra embedded --extra export --group dev --upgrade -o requirements/dev.txt
	$(PIN) pyproject.toml --extra server --extra embedded --group demo -c requirements/dev.txt -o requirements/demo.txt
	$(PIN) pyproject.toml --extra server -c requirements/dev.txt -o requirements/server.txt
	$(PIN) pyproject.toml -c requirements/dev.txt -o requirements/client.txt
	echo hatchling | $(PIN) - -c requirements/dev.txt -o requirements/build.txt
	printf "mlflow==$$(sed -n "s/^mlflow-skinny==\([0-9.]*\).*/\1/p" requirements/dev.txt)\npsycopg2-binary\n" | $(PIN) - -o requirements/bench-mlflow.txt
	printf "mlflow-skinny==$$(sed -n "s/^mlflow-skinny==\([0-9.]*\).*/\1/p" requirements/dev.txt)\npandas<2.3\nnumpy<1.25\n" | $(PIN) - -c requirements/client.txt -o requirements/torch.txt
	printf "mlflow==$$(sed -n "s/^mlflow-skinny==\([0-9.]*\).*/\1/p" requirements/dev.txt)\ntorch\nlightning\ntransformers\naccelerate\nxgboost\nmpi4py\nopenmpi\n" | $(PIN) - -c requirements/client.txt -o requirements/frameworks.txt
	echo mpich | $(PIN) - -o requirements/mpich.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Runfold needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Built here, without isolation: the build backend is pinned like everything else.
$(VENV)/.demo: $(VENV)/bin/python requirements/demo.txt pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/demo.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python requirements/dev.txt pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
