# make demo   set up and run the main comparison
# make test   set up and pass every test, the linters and the fact check
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
# compiled is what is imported, when it is: pip would compile everything, half a minute for torch
PIP    := -m pip install --quiet --disable-pip-version-check --no-compile
# what is locked comes from the lock alone, each file with one of its hashes
LOCKED := tools/install_locked.py

# commands of tests are processes of their own: without compiled modules each of them spends a second on compiling
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-slow test-capture pages-current elsewhere fuzz fuzz-accepted fuzz-guided mutants coverage test-web site lint golden golden-diff bench docs pictures accuracy accuracy-peers kernel-accuracy judge-replay kernel-advice fit check-public conformance third-party lock sbom audit clean

demo: $(STAMP)
	$(BIN)/mowich compare deepseek-v3 --train --tokens 15T --seq 4096 --batch 16384seqs \
	  --on trn2,trn3,trn3-gen1,trn4,ironwood,gb300 --chips 16384

# the linters run beside the tests: alone they keep one core waiting
test: $(STAMP)
	$(BIN)/mowich facts check
	@$(MAKE) --no-print-directory lint > $(VENV)/lint.log 2>&1 & lint=$$!; \
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal; tests=$$?; \
	wait $$lint; lints=$$?; cat $(VENV)/lint.log; exit $$((tests + lints))

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/python tools/constants.py
	$(BIN)/python tools/supply.py
	$(BIN)/python tools/shelves.py
	$(BIN)/mypy
	$(BIN)/lint-imports

# the corpus of kept answers (tests/golden): renew it in a commit of its own; see what moved (ARGS="--since HEAD~1", "--group serving", "--most 500")
golden golden-diff: export OPENBLAS_NUM_THREADS = 1
# outputs of kernels are kept bit for bit, with an arithmetic that newer processors have too
golden: export OPENBLAS_CORETYPE = Haswell
golden: export NPY_DISABLE_CPU_FEATURES = X86_V4 AVX512_ICL AVX512_SPR
golden: $(STAMP)
	$(BIN)/python tests/golden/corpus.py renew $(ARGS)

golden-diff: $(STAMP)
	$(BIN)/python tests/golden/corpus.py diff $(ARGS)

# every page and every kept answer, long ones too, in one process: what several of them rest on is made once
pages-current: $(STAMP)
	$(BIN)/python -m pytest -m "slow or not slow" \
	  tests/golden/test_corpus.py tests/house/test_docs.py tests/house/test_pages.py tests/studies/test_brief.py

# the corpus under other dispatch levels of NumPy and by the newest Python that is installed: a fortieth of it each, ARGS=--all: all of it
elsewhere: $(STAMP) $(VENV)-newest/.installed
	$(BIN)/python tests/golden/elsewhere.py --jobs $(JOBS) $(ARGS)

$(VENV)-newest/.installed: requirements.lock
	rm -rf $(VENV)-newest
	newest="$$($(PYTHON) tests/golden/elsewhere.py --newest)"; if [ -n "$$newest" ]; then \
	  "$$newest" -m venv $(VENV)-newest && $(VENV)-newest/bin/python $(LOCKED) -r requirements.lock; else mkdir $(VENV)-newest; fi
	touch $@

# counts parameters and FLOP again with torch and transformers (docs/records/parameters.md, docs/records/flops.md), in an environment of their own
# asks the parsers of programs that bundles start; MEGATRON=DIR, a checkout of Megatron-LM, MAXTEXT_PYTHON=FILE and CRDS=FILE,FILE add those that PyPI does
# not hold for this Python (tests/slow/check_launch.py)
# and runs again, with 200 drawn cases each, the properties that `make test` tries with 30 (tests/conftest.py)
MEGATRON       ?=
MAXTEXT_PYTHON ?=
CRDS           ?=
test-slow: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m slow
	$(BIN)/python -m pytest -n $(JOBS) -m hypothesis --hypothesis-profile many
	$(MAKE) --no-print-directory elsewhere ARGS=--all
	$(MAKE) --no-print-directory mutants
	$(MAKE) --no-print-directory coverage
	$(PYTHON) -m venv $(VENV)-slow
	$(VENV)-slow/bin/python $(LOCKED) --torch -r requirements.lock -r requirements-slow.lock
	$(VENV)-slow/bin/python tests/slow/check_params.py
	$(VENV)-slow/bin/python tests/slow/check_flops.py
	$(VENV)-slow/bin/python tests/slow/check_decoders.py
	$(MAKE) --no-print-directory test-capture
	$(PYTHON) -m venv $(VENV)-launch
	$(VENV)-launch/bin/python $(LOCKED) --torch -r requirements.lock
	$(VENV)-launch/bin/python $(LOCKED) -r requirements-launch.lock -r requirements-launchers.lock
	MEGATRON="$(MEGATRON)" MAXTEXT_PYTHON="$(MAXTEXT_PYTHON)" CRDS="$(CRDS)" $(VENV)-launch/bin/python tests/slow/check_launch.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/slow/check_sweep.py
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python $(LOCKED) -r requirements.lock -r requirements-ray.lock
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=src $(VENV)-ray/bin/python tests/slow/check_ray.py

# models captured from their code, with PyTorch and the libraries of models in an environment of their own
test-capture: export OMP_NUM_THREADS = 1
test-capture: $(VENV)-capture/.installed
	PYTHONPATH=src $(VENV)-capture/bin/python -m pytest -q tests/capture
	for check in tests/capture/check_*.py; do PYTHONPATH=src $(VENV)-capture/bin/python $$check || exit; done

$(VENV)-capture/.installed: requirements.lock requirements-torch.lock requirements-capture.lock
	$(PYTHON) -m venv $(VENV)-capture
	$(VENV)-capture/bin/python $(LOCKED) --torch -r requirements.lock -r requirements-capture.lock
	touch $@

# hostile input drawn from seeds (docs/project/reliability.md), in parts where that suits: make fuzz COUNT=2500 FIRST=5000
# SEED=date draws cases that no other day has, and other cases of each property too; SEED=20261202 draws those of that day again
COUNT ?= 10000
GUIDED ?= 1000
SEED  ?=
DAY   := $(if $(filter date,$(SEED)),$(shell date -u +%Y%m%d),$(SEED))
FIRST ?= $(if $(DAY),$(DAY)00000,0)
fuzz: $(STAMP)
	$(if $(DAY),$(BIN)/python -m pytest -n $(JOBS) -m hypothesis --hypothesis-profile daily --hypothesis-seed $(DAY))
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/hostile/hostile_run.py --count $(COUNT) --first $(FIRST)
	$(if $(DAY),OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/hostile/hostile_run.py --accepted --count $(COUNT) --first $(FIRST))
	$(if $(DAY),OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/hostile/hostile_run.py --guided --count $(GUIDED) --first $(FIRST))

# right questions drawn from seeds, whose answers are judged alone and beside each other: make fuzz-accepted COUNT=100000 FIRST=5000
fuzz-accepted: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/hostile/hostile_run.py --accepted --count $(COUNT) --first $(FIRST)

# files that are led by the branches of their readers: make fuzz-guided GUIDED=10000 FIRST=7; KEEP=--keep writes tests/hostile/corpus.jsonl anew
fuzz-guided: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/hostile/hostile_run.py --guided --count $(GUIDED) --first $(FIRST) $(KEEP)

# are the checks checked? each mutant of them has one thing wrong, and its tests must fail: ARGS="--only result_check", ARGS="--share 4"
mutants: $(STAMP)
	$(BIN)/python tools/mutants.py --jobs $(JOBS) $(ARGS)

# branches of the readers and of fleets that their tests take, with the least share of them
BRANCHES := mowich.requests,mowich.fleets
BRANCHED := tests/requests tests/fleets tests/property/test_fleet_plans.py tests/hostile/test_hostile.py
coverage: export COVERAGE_FILE = build/coverage
coverage: $(VENV)-coverage/.installed
	mkdir -p build
	PYTHONPATH=src OPENBLAS_NUM_THREADS=1 $(VENV)-coverage/bin/python -m coverage run --branch --source=$(BRANCHES) -m pytest -n 0 $(BRANCHED)
	$(VENV)-coverage/bin/python -m coverage report --skip-covered --fail-under=83

$(VENV)-coverage/.installed: requirements.lock requirements-coverage.lock
	$(PYTHON) -m venv $(VENV)-coverage
	$(VENV)-coverage/bin/python $(LOCKED) -r requirements.lock -r requirements-coverage.lock
	touch $@

# the documentation as a site in build/site: every link checked, nothing fetched from elsewhere
site: $(STAMP)
	$(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/python $(LOCKED) -r requirements-site.lock
	$(BIN)/python tools/build_site.py
	NO_MKDOCS_2_WARNING=1 $(VENV)-site/bin/mkdocs build --strict --quiet
	$(BIN)/python tools/build_site.py --check

# the web page in a browser, hostile requests, load (five minutes; make test-web LOAD_S=600: ten): tests/web/README.md; needs Debian's chromium and npm
LOAD_S ?= 300
test-web: $(STAMP) $(VENV)-web/.installed
	$(VENV)-web/bin/python tests/web/check_page.py
	$(VENV)-web/bin/python tests/web/check_hostile.py
	$(VENV)-web/bin/python tests/web/check_load.py --seconds $(LOAD_S)

$(VENV)-web/.installed: tests/web/requirements.lock
	$(PYTHON) -m venv $(VENV)-web
	$(VENV)-web/bin/python $(LOCKED) -r tests/web/requirements.lock
	touch $@

# published rows asked of Mowich and its peers (docs/records/accuracy-peers.md), from kept answers; ARGS="--renew all" asks those again that are here:
# AIConfigurator in an environment of its own, Calculon and SimuMax where `--calculon DIR` and `--simumax DIR` name checkouts
accuracy-peers: $(STAMP) $(VENV)-peers-aiconfigurator/.installed
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

$(VENV)-peers-aiconfigurator/.installed: requirements-peers.lock
	$(PYTHON) -m venv $(VENV)-peers-aiconfigurator
	$(VENV)-peers-aiconfigurator/bin/python $(LOCKED) -r requirements-peers.lock
	touch $@

bench: $(STAMP)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -s --benchmark-columns=min,median,max,rounds

# what the documents show: output of commands, values of facts, accuracy
docs: accuracy
	$(BIN)/python tools/fleet_pages.py --speeds
	$(BIN)/python tools/documents.py

# the pictures of docs/read/gallery.md and the screens of README, drawn anew: needs Chromium
pictures: $(STAMP)
	$(BIN)/python tools/pictures.py

# pages that a script writes whole, in their order: accuracy, goodput, claims, optimal plans, scaling; the brief last
accuracy: $(STAMP)
	$(BIN)/python tools/pages.py
	$(BIN)/python tools/autoscaling_page.py

# every stage that fits constants, in its order, to a fixed point; docs/records/constants-fit.md. It moves numbers: in a change of its own.
#   make fit SERVING=rows.csv
SERVING ?=
fit: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tools/fit.py $(if $(SERVING),"$(SERVING)",--page)

# `kernel check` finds nothing in public kernels that compile: make check-public PUBLIC="DIR ..."
check-public: $(STAMP)
	$(BIN)/python tools/check_public.py $(PUBLIC)

# docs/records/kernel-accuracy.md: kernels measured on hardware, on the clock. Name a file of measured points and the checkouts that you have:
#   make kernel-accuracy POINTS=points.json [MEGAKERNEL=...] [NKILIB=...] [KDA=...] [ACCELOPT=...] [ONLY='kev*'] [KERNEL_PAGE=FILE]
ONLY        ?= *
KERNEL_PAGE ?= docs/records/kernel-accuracy.md
kernel-accuracy: $(STAMP)
	$(BIN)/python tools/kernel_accuracy.py "$(POINTS)" --megakernel "$(MEGAKERNEL)" --nkilib "$(NKILIB)" --kda "$(KDA)" \
	  --accelopt "$(ACCELOPT)" --only "$(ONLY)" --page "$(KERNEL_PAGE)"

# docs/records/judge-accuracy.md and its picture: names as for kernel-accuracy, all of them
judge-replay: $(STAMP)
	$(BIN)/python tools/judge_replay.py "$(POINTS)" --megakernel "$(MEGAKERNEL)" --nkilib "$(NKILIB)" --kda "$(KDA)" \
	  --accelopt "$(ACCELOPT)"

# docs/records/kernel-advice.md: of released steps of kernels, at which place advice names each (tools/kernel_steps.yaml). POINTS and checkouts as above, ONLY too
kernel-advice: $(STAMP)
	$(BIN)/python tools/kernel_advice.py "$(POINTS)" --megakernel "$(MEGAKERNEL)" --nkilib "$(NKILIB)" --kda "$(KDA)" \
	  --accelopt "$(ACCELOPT)" --only "$(ONLY)"

# docs/records/conformance.md: published NKI kernels on our NeuronCore, in an environment of their own. Name the checkouts that you have
# (tests/conformance/README.md):
#   make conformance NKI_LIBRARY=... NKI_SAMPLES=... NEURON_SDK=... [SET=smoke|fast|regular|slow|all] [PLATFORM=trn2,trn3] [JOBS=2]
#   make conformance SUITE=pypi REPORT=      the packages from PyPI alone, writing no document
SUITE    ?= docs,samples,beta1,pypi,nkilib
SET      ?= smoke
PLATFORM ?= trn2,trn3
REPORT   ?= docs/records/conformance.md
conformance: $(VENV)-conformance/.installed
	NKI_LIBRARY="$(abspath $(NKI_LIBRARY))" NKI_SAMPLES="$(abspath $(NKI_SAMPLES))" NEURON_SDK="$(abspath $(NEURON_SDK))" \
	  $(VENV)-conformance/bin/python tests/conformance/run.py --suite $(SUITE) --set $(SET) --platform $(PLATFORM) --jobs $(JOBS) \
	  --show failed $(if $(REPORT),--report $(REPORT))

# kernels of other people's public repositories, into the last section of docs/records/conformance.md: on a folder of checkouts, or on clones
#   make third-party [CHECKOUTS=DIR]
third-party: $(VENV)-conformance/.installed
	$(VENV)-conformance/bin/python tests/conformance/third_party.py $(if $(CHECKOUTS),--checkouts "$(abspath $(CHECKOUTS))") --report docs/records/conformance.md

$(VENV)-conformance/.installed: requirements.lock requirements-torch.lock tests/conformance/requirements.lock
	$(PYTHON) -m venv $(VENV)-conformance
	$(VENV)-conformance/bin/python $(LOCKED) --torch -r requirements.lock -r tests/conformance/requirements.lock
	touch $@

# versions that everyone installs, with the hash of each of their files; edit pyproject.toml, then run this, and `make sbom`.
# The hashes are those of all platforms and Pythons. Where torch is needed, its locks hold it and its binaries, and the environment's lock
# the rest. requirements-torch-cpu.lock is written by hand: it holds what no registry has
UV   := uv==0.13.9
HASH := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python $(PIP) ".[dev]" "hatchling>=1.26" editables
	build/lock/bin/python -m pip freeze --exclude mowich > build/lock/pins.txt
	echo "colorama==0.4.6 ; sys_platform == 'win32'" >> build/lock/pins.txt  # what click asks for on Windows alone
	build/lock/bin/python $(PIP) $(UV)
	build/lock/bin/uv $(HASH) --no-deps build/lock/pins.txt -o requirements.lock
	build/lock/bin/uv $(HASH) -c build/lock/pins.txt requirements-ray.txt -o requirements-ray.lock
	for list in requirements-site requirements-coverage requirements-peers tests/web/requirements; do \
	  build/lock/bin/uv $(HASH) $$list.txt -o $$list.lock || exit; done
	build/lock/bin/uv $(HASH) requirements-torch.txt -o build/lock/torch.lock
	sed -nE 's/^((torch|triton|nvidia|cuda)[a-z0-9-]*==.*) \\$$/\1/p' build/lock/torch.lock > build/lock/torch.txt
	build/lock/bin/uv $(HASH) --no-deps build/lock/torch.txt -o requirements-torch.lock
	no_torch="$$(sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package \1/p' requirements-torch.lock)" && \
	for list in requirements-capture requirements-slow tests/conformance/requirements; do \
	  build/lock/bin/uv $(HASH) $$no_torch -c build/lock/pins.txt -c requirements-torch.txt $$list.txt -o $$list.lock || exit; done; \
	build/lock/bin/uv $(HASH) $$(echo "$$no_torch" | grep -v triton) --overrides requirements-launch.txt \
	  -c build/lock/pins.txt requirements-launch.txt -o requirements-launch.lock
	build/lock/bin/uv $(HASH) --no-deps requirements-launchers.txt -o requirements-launchers.lock
	echo "$(UV)" | build/lock/bin/uv $(HASH) - -o requirements-uv.lock
	rm -rf build/lock

# the bill of materials: what requirements.lock names, in CycloneDX 1.6
sbom: $(STAMP)
	rm -rf build/sbom
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/python $(PIP) cyclonedx-bom==7.5.0
	build/sbom/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --sv 1.6 --of JSON -o sbom.cdx.json
	rm -rf build/sbom
	$(BIN)/python tools/supply.py --sbom

# known weaknesses of every package that a lock names, asked of PyPI; it ends with an error where PyPI cannot be asked
LOCKS := requirements.lock requirements-ray.lock requirements-site.lock requirements-coverage.lock requirements-uv.lock tests/web/requirements.lock \
  requirements-peers.lock requirements-torch.lock requirements-capture.lock requirements-slow.lock requirements-launch.lock requirements-launchers.lock \
  tests/conformance/requirements.lock
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python $(PIP) pip-audit==2.10.1
	for lock in $(LOCKS); do build/audit/bin/pip-audit -r $$lock --disable-pip --require-hashes --strict --progress-spinner off || exit 1; done

# the install compiles the kernel clock, the simulation of traffic and the play of RL where a C compiler is: again when their sources change
$(STAMP): pyproject.toml requirements.lock tools/hatch_build.py $(wildcard src/mowich/neuroncore/clock/c/* src/mowich/serving/traffic/c/* src/mowich/rl/c/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) -r requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	touch $(STAMP)

clean:
	rm -f src/mowich/neuroncore/clock/_clock.so src/mowich/serving/traffic/_traffic.so src/mowich/rl/_run.so
	rm -rf $(VENV) $(VENV)-slow $(VENV)-ray $(VENV)-site $(VENV)-conformance $(VENV)-newest $(VENV)-web $(VENV)-peers-aiconfigurator $(VENV)-capture $(VENV)-coverage $(VENV)-launch build dist .mypy_cache .ruff_cache .pytest_cache
