"""Source files to datasets: read, columns, clean, check, split, write. Knows no model."""

from mlx_finetuning.data_processor.prepare import DatasetSummary, Inspection, inspect, prepare
from mlx_finetuning.data_processor.reproduce import Recipe, read_recipe, reproduce
from mlx_finetuning.data_processor.samples import SAMPLE_DATA, TEMPLATES
from mlx_finetuning.data_processor.store import read_rows, recover

__all__ = [
    "SAMPLE_DATA",
    "TEMPLATES",
    "DatasetSummary",
    "Inspection",
    "Recipe",
    "inspect",
    "prepare",
    "read_recipe",
    "read_rows",
    "recover",
    "reproduce",
]
