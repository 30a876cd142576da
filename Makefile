# Two commands: `make demo` and `make test`. Both make their own environment first.
#   make test PYTHON=/path/to/python3.10     tests on another Python, in an environment of its own
PYTHON ?=
CORES ?= $(shell nproc 2>/dev/null || echo 2)
VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
DEMO := work/demo

.PHONY: demo test coverage fuzz test-cluster table1-debug bench frames mutants lint types pins audit sbom venv
.DEFAULT_GOAL := test

venv:
	@./venv.sh $(VENV) $(PYTHON)

# A file of tests stays on one core: -n makes that many at once. ARGS="-n 0 -k name" runs one alone.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore=tests/cluster -n $(CORES) --dist loadfile $(ARGS)

# The same tests, and which branches of flea_fairseq they took, in all processes; fails below 90 %.
coverage: venv
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest --ignore=tests/cluster -n $(CORES) --dist loadfile $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# Every reader of files from others under coverage-guided fuzzing; what fails lies in work/fuzz. ARGS="manifest units" chooses.
SECONDS ?= 60
fuzz: venv
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/fuzz/coverage_guided.py --seconds $(SECONDS) $(ARGS)

# On a real Slurm that the tests start on this machine (root, Debian's packages); ARGS="-m long" for the whole demo.
test-cluster: venv
	$(BIN)/python -m pytest tests/cluster $(ARGS)

demo: venv
	test -d $(DEMO)/corpus || $(BIN)/python examples/demo/make_corpus.py $(DEMO)/corpus
	$(BIN)/flea run examples/demo/experiment.yaml --corpus $(DEMO)/corpus --output $(DEMO) --cores $(CORES)

DEBUG := work/debug
table1-debug: venv
	test -d $(DEBUG)/corpus || $(BIN)/python examples/demo/make_corpus.py $(DEBUG)/corpus --sentences 8 --shares
	test -f $(DEBUG)/weights/km500.bin || $(BIN)/python examples/iemocap/make_weights.py $(DEBUG)/weights
	$(BIN)/flea run examples/iemocap/debug.yaml --corpus $(DEBUG)/corpus --output $(DEBUG) --cores $(CORES) $(ARGS)

# More than an hour; EmoDB's folder as CORPUS. A benchmark that misses a bar does not keep the others from running.
CORPUS ?= ../shared/corpora/emodb
BENCHMARKS := pretrain_step finetune_epoch kmeans label_corpus scaling predict_rtf
bench: venv
	@missed=; for name in $(BENCHMARKS); do EMODB=$(CORPUS) $(BIN)/python examples/benchmarks/$$name.py $(ARGS) \
		|| missed="$$missed $$name"; done; test -z "$$missed" || { echo "not all bars hold:$$missed"; exit 1; }

# More than an hour; what was run is kept in mutants/, and a changed function is run again. MUTANTS="flea_fairseq.data.manifest.*"
# takes some; `$(BIN)/mutmut show NAME` shows one. mutmut is not among the tests' packages: nothing but this needs it.
mutants: venv
	test -x $(BIN)/mutmut || PATH=$$PATH:.uv/bin uv pip install --python $(BIN)/python "mutmut>=3.8,<4" \
		|| { echo "error: mutmut cannot be installed into $(VENV): is uv there, a package index reachable?"; exit 1; }
	OMP_NUM_THREADS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/mutmut run --max-children 1 $(MUTANTS)
	$(BIN)/mutmut results

# Hours: when is which emotion heard, by every variant of phase 3, on generated and on real speech (examples/frames).
# ARGS=--test scores test speakers as well; ARGS='$(TARGETS)' trains phase 2 on several K at once, of FRAMES=another/folder.
FRAMES ?= work/frames
TARGETS := --set name=frames-targets --set systems=[tapt,flea_targets] --set clusters=[50,100,150] --set poolings=[mean,local_consistent]
frames: venv
	test -d $(FRAMES)/corpus || $(BIN)/python examples/demo/make_corpus.py $(FRAMES)/corpus --sentences 16 --accents
	$(BIN)/python examples/frames/benchmark.py examples/frames/speech.yaml --corpus $(FRAMES)/corpus \
		--output $(FRAMES)/speech --cores $(CORES) $(ARGS)
	$(BIN)/python examples/frames/benchmark.py examples/frames/emodb.yaml --corpus $(CORPUS) \
		--output $(FRAMES)/emodb --cores $(CORES) $(ARGS)

lint: venv
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: venv
	$(BIN)/python -m mypy

# A version stays as it is while it can; ARGS=--upgrade takes the newest of all, ARGS="--upgrade-package torch" of one.
COMPILE = uv pip compile --quiet --generate-hashes --no-annotate --no-header $(ARGS)
pins:
	for v in 3.10 3.11 3.12; do $(COMPILE) --python-version $$v --all-extras setup.py \
		--output-file constraints/py$$(echo $$v | tr -d .).txt || exit; done
	$(COMPILE) --python-version 3.10 --universal constraints/release.in --output-file constraints/release.txt

# For a release, by hand: ARGS="--vulnerability-service osv" asks another service.
RELEASE := .venv-release
audit: $(RELEASE)
	./audit.sh $(RELEASE) $(ARGS)

# What the tests ran with, a file for each Python, the same bytes each time; not written unless it fits the schema.
sbom: $(RELEASE)
	mkdir -p work/sbom
	for pins in constraints/py*.txt; do $(RELEASE)/bin/cyclonedx-py requirements --validate --output-reproducible \
		--output-file work/sbom/$$(basename $$pins .txt).cdx.json $$pins || exit; done

$(RELEASE): constraints/release.txt
	uv venv --quiet --clear $@
	uv pip install --quiet --python $@/bin/python --require-hashes --requirements $<
