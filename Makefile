# `make demo` and `make test` need Python 3.10 or newer and pip, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

ZOO := .venv-zoo
# the Python of packages for CUDA, as it is: nothing is compiled
AS_PYTHON := MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE

# models of these, which are skipped where it is not
WITH_VISION := tests/golden tests/report tests/conventions/test_operator_level_peers.py \
  tests/conventions/test_against_onnx_tool.py -k "resnet50 or vit_b or swin_t or convnext_t or mambavision or page"

.PHONY: demo test test-samples test-slow lint test-peers test-pairs test-packages test-papers test-zoo test-sarif test-browser coverage bench docs pictures vendor clean

demo: $(VENV)/.installed
	$(BIN)/flopscan count vmamba_tiny

# two processes: more threads in each would only wait for each other
test test-samples test-slow test-peers test-pairs coverage: export OMP_NUM_THREADS = 1

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not peers and not packages and not papers and not zoo and not samples and not slow and not gpu and not browser"

# two samples of each of torch's operators; all of them: make coverage
test-samples: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m samples tests/samples_of_torch

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# thop is a package of the same name as ultralytics-thop, and flopth asks for torchvision: both stand apart; so do the
# models that need torchvision, whose compiled operators are those of another torch
test-peers: $(VENV)/.peers
	$(BIN)/python -m pytest -n 2 -m "peers and not slow"
	PYTHONPATH=$(VENV)/vision $(BIN)/python -m pytest -n 2 -m "peers and not slow" $(WITH_VISION)
	PYTHONPATH=$(VENV)/tools $(BIN)/python -m pytest -m peers tests/conventions/test_against_module_level_peers.py -k "thop or flopth"

# every pair of conventions on twelve models
test-pairs: $(VENV)/.peers
	PYTHONPATH=$(VENV)/vision $(BIN)/python -m pytest -n 2 -m "slow and peers" tests/report

# unmodified code of mamba_ssm, causal_conv1d and mambapy, on a machine without a GPU
test-packages: $(VENV)/.packages
	PYTHONPATH=$(VENV)/packages $(BIN)/python -m pytest -m "packages and not slow"

# plots, and what opens the exports: pandas, a notebook, pdflatex where it is
test-papers: $(VENV)/.papers
	$(BIN)/python -m pytest -m papers

# models that need torchvision: an environment of its own, of several GB
test-zoo: $(ZOO)/.installed
	$(ZOO)/bin/python -m pytest -m zoo tests/zoo

# SARIF against its official schema, which npm has
test-sarif: $(VENV)/.sarif
	$(BIN)/python -m pytest tests/budget/test_told.py -k sarif

# the HTML report in a real browser; its pictures go to docs/images. CHROMIUM says where the browser is
test-browser: $(VENV)/.browser
	FLOPSCAN_IMAGES=docs/images $(BIN)/python -m pytest -m browser

# all samples of torch's operators, and what of them is counted
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m slow tests/samples_of_torch

# what takes too long for make test: more forms of kernels, longer searches
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "slow and not peers and not packages and not gpu" --ignore tests/samples_of_torch

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/run.py

# what is made from the files here and from what the counters said; they are asked anew by benchmarks/answers.py
docs: $(VENV)/.peers
	$(BIN)/python docs/peers.py
	$(BIN)/python docs/conformance.py
	PYTHONPATH=$(VENV)/tools:$(VENV)/vision $(BIN)/python docs/conformance.py thop,flopth
	PYTHONPATH=$(VENV)/vision $(BIN)/python docs/models.py

# what a terminal shows, for docs/terminal.md
pictures: $(VENV)/.dev
	$(BIN)/python docs/pictures.py

# the libraries that the HTML report carries, at the versions of their manifest; needs npm
vendor:
	$(PYTHON) docs/vendor.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e .[dev]
	touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(PIP) -e .[dev,peers]
	$(PIP) --no-deps --target $(VENV)/tools thop flopth
	$(PIP) --no-deps --target $(VENV)/vision timm torchvision mambavision
	touch $@

$(VENV)/.papers: $(VENV)/.dev
	$(PIP) -e .[dev,papers]
	touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) -e .[dev,browser]
	touch $@

$(VENV)/.packages: $(VENV)/.peers
	$(PIP) setuptools wheel packaging ninja triton einops
	$(AS_PYTHON) $(PIP) --no-deps --no-build-isolation --target $(VENV)/packages mamba-ssm causal-conv1d mambapy
	touch $@

$(VENV)/.sarif: $(VENV)/.dev
	$(PIP) jsonschema
	npm install --silent --ignore-scripts --no-save --legacy-peer-deps --prefix .node @microsoft/jest-sarif@1.0.0-beta.0
	touch $@

$(ZOO)/.installed: pyproject.toml constraints-zoo.txt
	$(PYTHON) -m venv $(ZOO)
	$(ZOO)/bin/python -m pip install --quiet -c constraints-zoo.txt torch torchvision
	$(ZOO)/bin/python -m pip install --quiet -c constraints-zoo.txt -e . timm einops numpy pytest transformers
	$(ZOO)/bin/python -m pip install --quiet setuptools wheel packaging ninja
	$(AS_PYTHON) $(ZOO)/bin/python -m pip install --quiet -c constraints-zoo.txt --no-deps --no-build-isolation mambavision mamba-ssm
	touch $@

clean:
	rm -rf $(ZOO) $(VENV) .node build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
