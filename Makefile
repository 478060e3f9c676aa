# make demo | test | test-matrix | test-ddp | test-ray | test-mmseg | gpu-check | check | format | bench: each sets up .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
DEVICE ?= auto
SETUP := .venv/.set-up

.PHONY: demo test test-matrix test-ddp test-ray test-mmseg gpu-check check format bench clean
.DEFAULT_GOAL := test

# pip's own version is left alone: every pip since 2022 reads this project.
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "ALPS needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) -V); try make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: $(SETUP)
	$(BIN)/python label.py +dataset=sample masks.points_per_side=16 masks.max_area=0.4 assign.k=8
	rm -rf runs/demo
	$(BIN)/python train.py stage=pretrain experiment=demo run=runs/demo
	@echo
	@echo "The labels to look at:      data/sample_pl/report.html"
	@echo "Image, label, prediction:   runs/demo/pictures/step_000060.png"

test: $(SETUP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not two_processes'

# Every encoding of a raster, and whatever else has too many combinations for the ordinary suite.
test-matrix: $(SETUP)
	$(BIN)/python -m pytest -n auto tests/matrix

# One by one: each takes both cores.
test-ddp: $(SETUP)
	$(BIN)/python -m pytest -m two_processes

test-ray: $(SETUP)
	$(BIN)/python -m pytest tests/ray_engine

# onedl-mmcv brings opencv-python into the folder cv2 of the headless one, which is put back whole.
.venv/.set-up-mmseg: $(SETUP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,mmseg]' --constraint constraints.txt
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless --constraint constraints.txt
	@touch $@

test-mmseg: .venv/.set-up-mmseg
	$(BIN)/python -m pytest -n auto tests/mmsegmentation

# DEVICE=cpu runs it in small, without a GPU.
gpu-check: $(SETUP)
	$(BIN)/python -m benchmarks.gpu.carried
	$(BIN)/python -m benchmarks.gpu --device $(DEVICE)

check: $(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(SETUP)
	for name in sam pooling painting kmeans train; do $(BIN)/python -m benchmarks.$$name || exit; done

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
