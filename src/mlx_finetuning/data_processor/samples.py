"""Where the sample data and the templates lie: in a checkout and in an installed package alike."""

from __future__ import annotations

from pathlib import Path

# In a checkout `assets/data` is a link to the repository's `data`; a wheel holds the files.
SAMPLES = Path(__file__).resolve().parents[1] / "assets" / "data"
SAMPLE_DATA = SAMPLES / "sample_data.csv"
TEMPLATES = SAMPLES / "templates"
