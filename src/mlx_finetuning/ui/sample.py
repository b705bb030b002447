"""「サンプルで試す」: the bundled data with the built-in model, as the demo trains them."""

from __future__ import annotations

from mlx_finetuning import demo
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.studio import Studio


def start(studio: Studio) -> str:
    """Prepare the dataset and start the run; returns its id. Raises whatever a stage raises."""
    settings = PrepareConfig(hold_out="paraphrase")
    studio.data.prepare(SAMPLE_DATA, demo.DATASET, settings, replace=True)
    return studio.training.start(demo.SETTINGS)
