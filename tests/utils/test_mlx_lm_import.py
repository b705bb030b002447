"""mlx-lm is there without transformers and rich, and who wants either gets all of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

LATER = """
import sys
from mlx_finetuning import mlx_trainer
import mlx_lm
assert not {"transformers", "huggingface_hub", "rich"} & {*sys.modules}, "imported"
from transformers import AutoTokenizer
from huggingface_hub import snapshot_download
from mlx_lm.cli_ui import TrainUI
assert TrainUI.__module__ == "mlx_lm.cli_ui"
assert AutoTokenizer.from_pretrained and snapshot_download.__module__.startswith("huggingface_hub")
"""
BEFORE = """
import transformers
from mlx_finetuning import mlx_trainer
import mlx_lm.tokenizer_utils as theirs
assert theirs.AutoTokenizer is transformers.AutoTokenizer
"""


def test_mlx_lm_loads_neither_library_and_both_are_whole_afterwards() -> None:
    subprocess.run([sys.executable, "-c", LATER], check=True)


def test_transformers_that_is_there_already_is_what_mlx_lm_gets() -> None:
    subprocess.run([sys.executable, "-c", BEFORE], check=True)


def test_few_allowed_files_are_no_error() -> None:
    # Root may raise its limits, unless the right to is taken away.
    without = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
    subprocess.run(
        [*without, sys.executable, "-c", "from mlx_finetuning import mlx_trainer; import mlx_lm"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)),
        check=True,
    )
