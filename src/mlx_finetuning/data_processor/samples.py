"""Where the sample data and the templates lie: in a checkout and in an installed package alike."""

from __future__ import annotations

from mlx_finetuning.files import ASSETS

# In a checkout `assets/data` is a link to the repository's `data`; a wheel holds the files.
SAMPLES = ASSETS / "data"
SAMPLE_DATA = SAMPLES / "sample_data.csv"
TEMPLATES = SAMPLES / "templates"
