# `make quickstart` and `make test` need nothing but Python 3.11 or later and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install quickstart test soak benchmarks benchmarks-peers check docs

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install
	$(BIN)/micronet-search run sweeps/quickstart.yaml

# a process for each core, each with one thread, and one more, because many tests wait for other processes; the studies,
# which take longest, come first
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# over an hour: many kills, thousands of wrong sweeps and of damaged ONNX and packed files, thousands of random networks,
# PostgreSQL, network namespaces; as root, with Debian's postgresql and iproute2 (what they need is skipped without)
soak: install
	MICRONET_KILLS=10 MICRONET_FUZZ=5000 MICRONET_DRAWS=2000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rP --timeout 3600 \
	  -m 'not slow and not gpu and not cifar' tests/soak tests/end_to_end/test_ray.py \
	  tests/end_to_end/test_kill.py tests/end_to_end/test_resume.py tests/end_to_end/test_outage.py tests/test_fuzz.py \
	  tests/test_pipeline.py tests/test_export_packed.py tests/test_export_mnz_damage.py \
	  tests/test_score_graphs_damaged.py

# what docs/performance.md shows, in RUNS, on idle cores: hours, or less with fewer seeds of the replays (SEEDS=5);
# on CIFAR-10's images too where MICRONET_CIFAR10 names their folder
RUNS ?= mlruns/benchmarks
PYTHON_1 := OMP_NUM_THREADS=1 $(BIN)/python
REPLAYS := $(if $(SEEDS),--seeds $(SEEDS))
PARQUET := $(if $(MICRONET_CIFAR10),--parquet $(MICRONET_CIFAR10))

benchmarks: install
	$(PYTHON_1) benchmarks/search.py cifar10 $(REPLAYS)
	$(PYTHON_1) benchmarks/search.py digits $(REPLAYS)
	$(PYTHON_1) benchmarks/draws.py
	$(PYTHON_1) benchmarks/prediction.py
	$(PYTHON_1) benchmarks/compressions.py --root $(RUNS)
	$(PYTHON_1) benchmarks/early_stopping.py
	$(PYTHON_1) benchmarks/stopped_search.py digits $(REPLAYS)
	$(PYTHON_1) benchmarks/stopped_search.py cifar10 $(REPLAYS)
	$(PYTHON_1) benchmarks/step.py --threads 1 --rounds 5 --batches 6 --evaluated 2000 densenet separable
	$(PYTHON_1) benchmarks/slots.py --rounds 2 --epochs 3 --limit 1200 $(PARQUET)
	$(PYTHON_1) benchmarks/overhead.py --trials 160
	$(PYTHON_1) benchmarks/overhead_peers.py optuna --trials 160
	$(PYTHON_1) benchmarks/overhead_peers.py ray --trials 30
	$(BIN)/python benchmarks/whole_job.py digits --root $(RUNS)/whole-job
	$(if $(PARQUET),$(BIN)/python benchmarks/whole_job.py cifar10 --root $(RUNS)/whole-job $(PARQUET))

# Ax, SMAC and Syne Tune on the tables, in an environment of their own: hours, most of them Ax's
PEERS ?= $(VENV)/peers

benchmarks-peers: $(PEERS)/.installed
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/search_peers.py cifar10
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/search_peers.py digits

$(PEERS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet -c constraints.txt -e '.[benchmarks]'
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy micronet_search
	$(BIN)/lint-imports

# the pages of docs/ and the README as a site in build/site
docs: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
