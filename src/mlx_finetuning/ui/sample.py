"""「サンプルで試す」: おまかせ on the bundled data with the built-in model, as the demo does it."""

from __future__ import annotations

from mlx_finetuning import demo
from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.studio import Studio


def start(studio: Studio) -> str:
    """Prepare the dataset and start the journey; returns its run's id. Raises whatever a stage raises."""
    studio.data.prepare(SAMPLE_DATA, demo.DATASET, demo.PREPARE, replace=True)
    return studio.auto.start(demo.SETTINGS)
