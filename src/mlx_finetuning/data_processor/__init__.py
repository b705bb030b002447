"""Source files to datasets: read, columns, clean, check, split, write. Knows no model."""

from mlx_finetuning.data_processor.prepare import DatasetSummary, Inspection, inspect, prepare
from mlx_finetuning.data_processor.samples import SAMPLE_DATA, TEMPLATES
from mlx_finetuning.data_processor.store import read_rows

__all__ = [
    "SAMPLE_DATA",
    "TEMPLATES",
    "DatasetSummary",
    "Inspection",
    "inspect",
    "prepare",
    "read_rows",
]
