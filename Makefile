# One command per chore. `make demo` and `make test` set up whatever they need on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STUDY ?=
export STUDY
MODEL ?= ct-lung
DATA ?= ../shared/data
# Processes that tests run in.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() or 1, 8))')

KERNELS ?= dicomnode/inference/kernels

.PHONY: help setup demo run test test-viewer check format coverage lock licences statement kernels install train bench-results bench-deidentify bench-slice bench-way bench-inference bench-gpu bench-receive bench-receive-alone bench-turnaround prove-deidentify prove-slice prove-workflow prove-fuzz prove-intake prove-scale prove-cases prove-systemd soak clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install the system packages (root), or print the command that does
	@sh deploy/setup-system.sh

$(BIN)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dicomnode needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(BIN)/.base: $(BIN)/.created requirements.lock pyproject.toml
	@echo "Installing the locked packages (about a minute on a fresh machine)"
	@$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@

$(BIN)/.dev: $(BIN)/.base requirements-dev.lock
	@echo "Installing the packages for development"
	@$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

demo: setup $(BIN)/.base ## one study all the way; STUDY=<folder> takes your own
	@if [ -n "$$STUDY" ]; then $(BIN)/dicomnode demo --study "$$STUDY"; else $(BIN)/dicomnode demo; fi

run: $(BIN)/.base ## the node on embedded defaults, in the foreground
	@$(BIN)/dicomnode serve

test: setup $(BIN)/.dev ## all tests, except those in a viewer
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore=tests/viewer

test-viewer: setup $(BIN)/.dev ## results in a real viewer: OHIF in a headless Chromium, on Orthanc; fetches both
	@sh deploy/setup-viewer.sh build/viewer
	@$(BIN)/python -m pytest tests/viewer

check: $(BIN)/.dev ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(BIN)/.dev ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

coverage: $(BIN)/.dev ## the tests, and what they ran of lines and branches held against the floors of the house
	@rm -rf build/measured
	@DICOMNODE_MEASURED=$(CURDIR)/build/measured PYTHONPATH=$(CURDIR)/tests/measured$${PYTHONPATH:+:$$PYTHONPATH} $(MAKE) --no-print-directory test
	@$(BIN)/python tests/coverage_floors.py build/measured

lock: $(BIN)/.dev ## write the lock files anew
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra dev -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements-dev.lock
	@mkdir -p build
	@$(BIN)/uv pip compile pyproject.toml --extra ocr -c requirements-dev.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o build/ocr.lock
	@awk 'NR == FNR {if (/^[a-z]/) base[$$1]; next} /^[a-z]/ {kept = !($$1 in base)} kept' requirements.lock build/ocr.lock > requirements-ocr.lock
	@$(BIN)/uv pip compile pyproject.toml --extra train -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o build/train.lock
	@awk '/^[a-z]/ {kept = !/^(torch==|triton==|nvidia-|cuda-)/} kept' build/train.lock > requirements-train.lock

licences: $(BIN)/.base ## write deploy/docs/licences.md anew
	@$(BIN)/python deploy/licences.py

statement: $(BIN)/.base ## write the de-identification section of deploy/docs/conformance.md anew
	@$(BIN)/python deploy/deidentification_statement.py

# For compute capability 7.5: the driver compiles it for whatever is newer. No fused steps: the CPU path has none either.
kernels: $(BIN)/.base ## write the kernels' PTX anew (needs nvcc)
	@for file in volume tiles labels; do \
		nvcc -ptx -arch=compute_75 -fmad=false -std=c++17 -Werror all-warnings dicomnode/inference/kernels/$$file.cu -o $(KERNELS)/$$file.raw && \
		$(BIN)/python -m dicomnode.inference.kernels $$file <$(KERNELS)/$$file.raw >$(KERNELS)/$$file.ptx && \
		rm $(KERNELS)/$$file.raw || exit 1; \
	done

install: ## install as a service (root): see deploy/docs/install.md
	@sh deploy/install.sh

# PyTorch itself has a version but no hash: its file differs by platform and index (CPU or CUDA, and what CUDA brings along).
.venv-train/.ready: requirements-train.lock pyproject.toml
	@echo "Making .venv-train with PyTorch (large; once)"
	@$(PYTHON) -m venv .venv-train
	@.venv-train/bin/python -m pip install --disable-pip-version-check -q --require-hashes --no-deps -r requirements-train.lock
	@.venv-train/bin/python -m pip install --disable-pip-version-check -q -e ".[train]"
	@touch $@

train: .venv-train/.ready ## train a model package by its recipe; DATA=<folder of real scans>, goes on where it stopped
	@.venv-train/bin/python models/$(MODEL)/train/train.py --out build/train/$(MODEL) $(if $(wildcard $(DATA)),--data $(DATA)) --resume

# A server of S3 that others wrote, for tests: what it needs does not resolve together with DBOS.
.venv-s3/.ready:
	@$(PYTHON) -m venv .venv-s3
	@.venv-s3/bin/python -m pip install --disable-pip-version-check -q "moto[s3]==5.2.5" "flask==3.1.2" "flask-cors==6.0.1"
	@touch $@

.venv-bench/.ready: requirements.lock pyproject.toml
	@echo "Making .venv-bench with the peers"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --disable-pip-version-check -q --require-hashes --no-deps -r requirements.lock
	@.venv-bench/bin/python -m pip install --disable-pip-version-check -q -e ".[bench]"
	@touch $@

bench-results: .venv-bench/.ready ## SEG, SR and key image after the labels, beside plain highdicom and dcmqi
	@.venv-bench/bin/python -m tests.benchmarks.results

bench-slice: $(BIN)/.dev ## stages of one study, timed
	@$(BIN)/python -m tests.benchmarks.slice

bench-way: $(BIN)/.dev ## sealed slices to a volume, resampling, statistics: the way around the network, timed
	@$(BIN)/python -m tests.benchmarks.way $(BENCH)

bench-inference: .venv-bench/.ready ## volume in, labels out, on the CPU beside MONAI on PyTorch; BENCH="--cases ct-lung --rounds 3"
	@.venv-bench/bin/python -m tests.benchmarks.inference $(BENCH)

# TensorRT and pycuda, where they can be had.
.venv-bench/.gpu: .venv-bench/.ready
	@echo "Installing TensorRT and pycuda (gigabytes)"
	@.venv-bench/bin/python -m pip install --disable-pip-version-check -q -e ".[gpu]" && touch $@ || echo "They cannot be had here: the table says what is missing"

bench-gpu: .venv-bench/.gpu ## all that is asked of a GPU in one run, beside PyTorch on it; BENCH="--cases ct-lung --json FILE"
	@.venv-bench/bin/python -m tests.benchmarks.gpu $(BENCH)

bench-receive: $(BIN)/.dev ## receiving beside DCMTK and Orthanc; BENCH="--pairs 5 --cases ct-1 --senders fast"
	@$(BIN)/python -m tests.benchmarks.receive $(BENCH)

bench-receive-alone: $(BIN)/.dev ## the code of receiving without its disk, and its network half alone, beside DCMTK
	@$(BIN)/python -m tests.benchmarks.receive_alone $(BENCH)

bench-turnaround: $(BIN)/.dev ## last C-STORE to results at the PACS, beside the network alone; BENCH="--rounds 3 --engine stand-in"
	@$(BIN)/python -m tests.benchmarks.turnaround $(BENCH)

bench-deidentify: .venv-bench/.ready ## de-identification beside dicom-anonymizer, deid, dicognito and gdcmanon, in one run
	@sh deploy/setup-system.sh bench
	@.venv-bench/bin/python -m tests.benchmarks.deidentify

prove-deidentify: $(BIN)/.dev ## tens of thousands of planted identifiers, each looked for in what comes out; SEED=<number>, ROUNDS=<number>
	@DICOMNODE_PLANT_SEED=$${SEED:-1} DICOMNODE_PLANT_ROUNDS=$${ROUNDS:-14} $(BIN)/python -m pytest -s --timeout 7200 tests/properties/test_planted_identifiers.py

prove-slice: $(BIN)/.dev ## kill -9 in every stage, many rounds
	@DICOMNODE_KILL_ROUNDS=$${ROUNDS:-20} $(BIN)/python -m pytest tests/journey/test_kill.py

prove-workflow: $(BIN)/.dev ## kill -9 of any process of a node 200 times, also with the real model; SEED=<number>, KILLS=<number>
	@DICOMNODE_KILL_SEED=$${SEED:-0} DICOMNODE_WORKFLOW_KILLS=$${KILLS:-200} DICOMNODE_MIXED_STUDIES=$${STUDIES:-50} $(BIN)/python -m pytest -s --timeout 14400 \
		tests/journey/test_kill_any_process.py tests/journey/test_kill_rules.py tests/journey/test_held_back.py tests/journey/test_misbehaving_pacs.py \
		tests/journey/proof_full_disk.py

soak: $(BIN)/.dev ## mixed studies from four senders, memory and descriptors watched; SOAK_SECONDS=<number>
	@DICOMNODE_SOAK_SECONDS=$${SOAK_SECONDS:-60} $(BIN)/python -m pytest -s --timeout 172800 tests/journey/proof_soak.py

prove-fuzz: $(BIN)/.dev ## a hundred thousand mutated PDUs; SEED=<number>, CASE=<number> for one of them alone
	@DICOMNODE_FUZZ_SEED=$${SEED:-1} DICOMNODE_FUZZ_PDUS=$${PDUS:-100000} DICOMNODE_FUZZ_CASE=$${CASE:-} \
		$(BIN)/python -m pytest tests/fuzz -s --timeout 7200

prove-intake: $(BIN)/.dev ## kill -9 under load 200 times, power cuts and flipped bits by the thousand; SEED=<number>, ROUNDS=<number>
	@DICOMNODE_INTAKE_SEED=$${SEED:-0} DICOMNODE_INTAKE_ROUNDS=$${ROUNDS:-200} DICOMNODE_CUT_SEED=$${SEED:-0} DICOMNODE_CUT_SAMPLES=60 \
		DICOMNODE_FLIP_SEED=$${SEED:-0} DICOMNODE_FLIPS=10000 $(BIN)/python -m pytest -s --timeout 7200 \
		tests/journey/test_kill_intake.py tests/properties/test_power_cut.py tests/properties/test_flipped_bits.py

prove-scale: $(BIN)/.dev ## more receivers on more cores, over two network namespaces (root); BENCH="--receivers 1,2"
	@$(BIN)/python -m tests.benchmarks.scale $(BENCH)

prove-cases: $(BIN)/.dev ## every case of the tables of which the suite runs a few
	@DICOMNODE_EVERY_CASE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --timeout 1800 $$(grep -rlE 'pace\.(cases|rounds)\(' tests)

prove-systemd: $(BIN)/.dev ## the unit under a real systemd, in a container of its own
	@DICOMNODE_SYSTEMD_PROOF=1 $(BIN)/python -m pytest tests/journey/test_systemd.py

clean: ## remove what was built, never a node's state
	@rm -rf build demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
