# `make demo` and `make test` do their own set-up, once: a virtual environment in .venv and the
# packages in it. Without make: docs/installing.md.

PYTHON ?= python3
VENV ?= .venv
# The package index that torch comes from. `auto`: PyTorch's CPU builds where there is no NVIDIA
# card and that index can be reached (200 MB instead of several GB), else pip's usual index.
TORCH_INDEX ?= auto
# Processes that share the tests: each takes half a minute of a core to find them all.
WORKERS ?= 2
# `locked`: the packages that were tested, by hash; `newest`: the newest that the ranges allow.
PACKAGES ?= locked
CPU_INDEX := https://download.pytorch.org/whl/cpu
LATEST := .venv-latest

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python

# Set in many containers; without what was compiled once, each process that a test starts does it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo run test quick check thorough latest lock sbom audit fuzz screenshots words style lint setup setup-dev clean

help:
	@echo "make demo    try the bot in a browser: no token, no GPU, no model download"
	@echo "make run     run the bot against Discord; without .env it asks for what it needs first"
	@echo "make test    the quick checks (under three minutes)"
	@echo "make check   everything that CI runs"
	@echo "make thorough  further cases, before a release"
	@echo "make latest  the quick checks with the newest packages of today, in $(LATEST)"
	@echo "make sbom    write the bill of materials (CycloneDX) of the packages that make installs"
	@echo "make lock    choose the packages anew that make installs (CONTRIBUTING.md says when)"

demo: setup
	$(RUN) -m bot demo

# Without settings it asks for them first.
run: setup
	@test -f .env || $(RUN) -m bot setup
	$(RUN) -m bot run

test: style quick

quick: setup-dev
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not browser"

# Storms, crowds and browsers want the machine to themselves; the other slow tests share it.
ALONE := tests/crash tests/browser tests/process/test_flood.py tests/bench/test_burst.py tests/bench/test_http_load.py
check: lint test
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --durations=20 -m "slow and not thorough" $(addprefix --ignore=,$(ALONE))
	$(RUN) -m pytest --durations=10 -m "(slow or browser) and not thorough" $(ALONE)

# All else, after `make check`: before a release, and after changes of what it covers.
thorough: setup-dev
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --durations=20 -m thorough

# Hours of what `make check` does for five seconds each; the corpus stays in .fuzz.
FUZZ_SECONDS ?= 3600
fuzz: setup-dev
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(RUN) -m pytest -n 2 -m slow tests/fuzz

screenshots: setup-dev
	$(RUN) -m docs.screenshots

words: setup-dev
	$(BIN)/pybabel -q extract --no-location --sort-output -k mark -o bot/words/messages.pot bot cogs storage
	$(BIN)/pybabel -q update --no-fuzzy-matching --ignore-obsolete -N -l zh_CN -i bot/words/messages.pot -o bot/words/zh_CN.po
	$(BIN)/pybabel -q compile -i bot/words/zh_CN.po -o bot/words/zh_CN.mo

style: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/basedpyright --warnings

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(RUN):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# torch has no hashes: its builds differ by index. An index named by hand may not have the version
# that was tested (PyTorch keeps only some releases for each CUDA), so there the range counts. What is
# there stays: another build might not work with the driver.
$(VENV)/.torch: | $(RUN)
	@index="$(TORCH_INDEX)"; wanted='"torch>=2.8,!=2.9.*" torchvision'; \
	if [ "$$index" = auto ]; then \
	  index=; \
	  if [ "$(PACKAGES)" = locked ]; then wanted='-r requirements-torch.lock'; fi; \
	  if ! nvidia-smi >/dev/null 2>&1 && $(RUN) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=5)' $(CPU_INDEX) 2>/dev/null; then \
	    index=$(CPU_INDEX); \
	  fi; \
	fi; \
	echo "Installing torch from $${index:-the usual index} (this takes a while, once)"; \
	eval "$(RUN) -m pip install -q $${index:+--index-url $$index} $$wanted"
	@touch $@

# A lock is whole, so nothing is looked up besides (`--no-deps`), and torch stays as it is.
install = $(RUN) -m pip install -q $(if $(filter locked,$(PACKAGES)),--no-deps --require-hashes -r requirements$(1).lock,-r requirements$(1).txt)

$(VENV)/.ready: requirements.txt requirements.lock | $(VENV)/.torch
	@echo "Installing the bot's packages"
	$(call install,)
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements-admin.txt requirements-ray.txt requirements-moderation.txt requirements-dev.lock $(VENV)/.ready
	@echo "Installing the test packages"
	$(call install,-dev)
	@touch $@

# Without addresses, whatever index is asked. What belongs to a build of torch comes with torch.
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command "make lock" --constraint requirements-torch.lock \
	--no-emit-package torch --no-emit-package torchvision
lock: setup-dev
	$(RUN) -m pip install -q uv
	$(COMPILE) requirements-dev.txt -o $(VENV)/all.txt >/dev/null
	@builds=$$(grep -oE '^(nvidia|cuda|triton)[a-z0-9-]*' $(VENV)/all.txt | sed 's/^/--no-emit-package /'); \
	$(COMPILE) $$builds requirements-dev.txt -o requirements-dev.lock && \
	$(COMPILE) $$builds --constraint requirements-dev.lock requirements.txt -o requirements.lock

# What a release consists of, for those who look advisories up by themselves: CycloneDX, by OWASP's
# own tool, from the locks, so with each file's hash. The tool runs in an environment that uv throws away.
SBOM ?= sbom.cdx.json
sbom: | $(RUN)
	$(RUN) -m pip install -q uv
	cat requirements.lock requirements-torch.lock | $(BIN)/uv tool run --from 'cyclonedx-bom>=7.5,<8' \
		cyclonedx-py requirements - --spec-version 1.6 --output-reproducible --mc-type application \
		--output-file $(SBOM)

# Not a test: its answer changes by the day. OSV's own list, not the package index, which would be
# asked about each package.
audit: setup-dev
	$(RUN) -m pip_audit --local --vulnerability-service osv --progress-spinner off

# An environment of its own, made anew: what somebody gets who installs by the ranges today. Then the
# same without the ranges' ends, whose failures are news and no fault.
latest:
	rm -rf $(LATEST)
	$(MAKE) VENV=$(LATEST) PACKAGES=newest quick
	$(LATEST)/bin/python -m pip check
	$(LATEST)/bin/python -m pip freeze | tee $(LATEST)/freeze.txt
	sed -E '/^(-r|#|$$)/d; s/,? *<[^ ;#]*//' requirements*.txt > $(LATEST)/no-ends.txt
	@echo "Within the ranges: passed. Without their upper ends, which is only reported:"
	-$(LATEST)/bin/python -m pip install -q --upgrade --upgrade-strategy eager -r $(LATEST)/no-ends.txt
	-@$(LATEST)/bin/python -m pip freeze | diff $(LATEST)/freeze.txt - && echo "nothing newer" || $(MAKE) VENV=$(LATEST) PACKAGES=newest quick

clean:
	rm -rf $(VENV) $(LATEST) .pytest_cache .ruff_cache .hypothesis .fuzz
