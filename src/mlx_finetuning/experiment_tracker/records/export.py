"""A run's records for other programs: CSV tables, or all its points at once for a tracker."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.experiment_tracker.records import trackers
from mlx_finetuning.experiment_tracker.records.content import RunRecords
from mlx_finetuning.files import JsonObject

CSV = "csv"
FORMATS = (CSV, *trackers.TRACKERS)
_ALSO_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet may run if a cell begins with it."""


def is_writable(form: str) -> bool:
    """Whether the package that writes a format is here; CSV needs none."""
    return form == CSV or trackers.is_installed(form)


def write(content: RunRecords, form: str, folder: Path) -> list[Path]:
    """Write the files of a format into `folder`, which may exist; returns what was written.

    Raises TrackerNotInstalled, DiskFull.
    """
    files.make_folder(folder)
    if form == CSV:
        return _write_csv(content, folder)
    tracker = trackers.open_tracker(form, content, folder)
    tracker.log(list(content.scalars()))
    tracker.finish()
    return [tracker.path]


def tables(content: RunRecords) -> dict[str, str]:
    """The CSV files by name. Texts that a spreadsheet would run as formulas are neutralised."""
    # One row per update: a validation stands beside the update it follows.
    by_update: dict[int, JsonObject] = {}
    for line in content.metrics:
        by_update.setdefault(line["update"], {}).update(line)
    return {
        "metrics.csv": _table(list(by_update.values())),
        "settings.csv": _table(
            [{"設定": name, "値": value} for name, value in content.facts.items()]
        ),
        "samples.csv": _table(content.samples),
    }


def archive(content: RunRecords) -> bytes:
    """The CSV files as one ZIP file, as a browser saves it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in tables(content).items():
            target.writestr(name, text.encode("utf-8-sig"))
    return stream.getvalue()


def cell(value: object) -> str | float:
    """A value as it stands in a table; a text that begins like a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_ALSO_FORMULAS) else text


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return stream.getvalue()


def _write_csv(content: RunRecords, folder: Path) -> list[Path]:
    paths = []
    for name, text in tables(content).items():
        # The mark tells Excel that it is UTF-8.
        files.write_text(folder / name, f"\ufeff{text}")
        paths.append(folder / name)
    return paths
