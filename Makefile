# `make quickstart` needs git, make and Python 3.11 to 3.13, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# `make test EXTRAS=test,peers` also compares with PyTorch's models; on Linux, pip takes
# a build without CUDA if PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
EXTRAS ?= test

.PHONY: help quickstart install test test-slow lint docs bench notebooks clean

help:
	@echo "make quickstart   train CLIP and CLIPin on made-up scenes and compare them"
	@echo "make test         the tests; make test-slow runs those that take minutes"
	@echo "make lint         ruff and pyright"
	@echo "make docs         the site, in docs/_build/html"
	@echo "make bench        step time of CLIPin over CLIP"
	@echo "make notebooks    execute notebooks/source and store cells and outputs"
	@echo "make clean        remove the environment and caches, keep runs/"
	@echo "PYTHON=python3.12 make ...   picks another Python"

quickstart: install
	$(BIN)/clipin train quickstart --workdir runs/quickstart_clip
	$(BIN)/clipin train quickstart:clipin --workdir runs/quickstart_clipin
	$(BIN)/clipin report runs/quickstart_clip runs/quickstart_clipin \
	    --output runs/quickstart.html
	@echo "Open runs/quickstart.html in a browser: both runs side by side."

install: $(VENV)/.installed

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --durations=10

test-slow: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# All pages anew (-E -a): Sphinx forgets the index entries of pages that it keeps.
docs: $(VENV)/.installed-docs
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx -b html -E -a -W --keep-going -n -q \
	    docs docs/_build/html
	$(BIN)/python docs/check_site.py docs/_build/html
	@echo "Open docs/_build/html/index.html in a browser."

bench: install
	$(BIN)/python bench/step_time.py --quick

notebooks: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m notebooks.build $(NAMES)

clean:
	rm -rf $(VENV) build dist docs/_build docs/notebooks *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo "clipin_jax needs Python 3.11 to 3.13, and $(PYTHON) is not one of" \
	    "them: name another, such as make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are older than setup.py when a pin has changed.
$(VENV)/.installed: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-%: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@ $(VENV)/.installed
