# `make demo` and `make test` do their own set-up, once: a virtual environment in .venv and the
# packages in it. Without make: see "Without make" in README.md.

PYTHON ?= python3
VENV ?= .venv
# The package index that torch comes from. `auto`: PyTorch's CPU builds where there is no NVIDIA
# card and that index can be reached (200 MB instead of several GB), else pip's usual index.
TORCH_INDEX ?= auto
# Processes that share the quick tests.
WORKERS ?= 2
CPU_INDEX := https://download.pytorch.org/whl/cpu

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python

.PHONY: help demo run test check screenshots words lint setup setup-dev clean

help:
	@echo "make demo    try the bot in a browser: no token, no GPU, no model download"
	@echo "make run     run the bot against Discord, with the settings of .env"
	@echo "make test    the quick checks (under three minutes)"
	@echo "make check   everything that CI runs"

demo: setup
	$(RUN) -m bot demo

run: setup
	$(RUN) -m bot run

test: setup-dev lint
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not browser"

# Storms and browsers want the machine to themselves; the other slow tests share it.
check: test
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m slow --ignore=tests/crash --ignore=tests/browser
	$(RUN) -m pytest -m "slow or browser" tests/crash tests/browser

screenshots: setup-dev
	$(RUN) -m docs.screenshots

words: setup-dev
	$(BIN)/pybabel -q extract --no-location --sort-output -k mark -o bot/words/messages.pot bot cogs storage
	$(BIN)/pybabel -q update --no-fuzzy-matching --ignore-obsolete -N -l zh_CN -i bot/words/messages.pot -o bot/words/zh_CN.po
	$(BIN)/pybabel -q compile -i bot/words/zh_CN.po -o bot/words/zh_CN.mo

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --warnings

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(RUN):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.torch: | $(RUN)
	@index="$(TORCH_INDEX)"; \
	if [ "$$index" = auto ]; then \
	  index=; \
	  if ! nvidia-smi >/dev/null 2>&1 && $(RUN) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=5)' $(CPU_INDEX) 2>/dev/null; then \
	    index=$(CPU_INDEX); \
	  fi; \
	fi; \
	echo "Installing torch from $${index:-the usual index} (this takes a while, once)"; \
	$(RUN) -m pip install -q $${index:+--index-url $$index} "torch>=2.8" torchvision
	@touch $@

$(VENV)/.ready: requirements.txt | $(VENV)/.torch
	@echo "Installing the bot's packages"
	$(RUN) -m pip install -q -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements-admin.txt requirements-ray.txt $(VENV)/.ready
	@echo "Installing the test packages"
	$(RUN) -m pip install -q -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
