"""The card of a shared model: what it is, what it was made of, and what it was measured to do.

Japanese first, then English; for who speaks English only that. Holds figures and hashes, and neither a row of the data nor a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.files import ASSETS
from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import language
from mlx_finetuning.utils.settings_ja import label_of, shown_value

TEMPLATE = "model_card.md.j2"
LICENCE_KEYS = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
"""The hub's keys of the catalogue's licences; it takes the others as `other`, by their name."""
SETTINGS = (
    *("method", "rank", "alpha", "learning_rate", "batch_size", "iterations", "epochs"),
    *("objective", "max_length", "replay", "seed"),
)
"""Those that a card names."""
FORM = ("method", "rank", "alpha")
"""Those that are known of an imported adapter."""


@dataclass(frozen=True)
class Base:
    """The model that was trained on."""

    name: str
    licence: str
    """Its name, or empty where it is not known."""
    repository: str
    """On the hub; empty where it came from elsewhere."""


@dataclass(frozen=True)
class WrittenFile:
    """A GGUF file of the run."""

    name: str
    quant: str
    size_bytes: int
    agreement: float | None
    """Share of tokens for which it predicts the trained model's word."""


@dataclass(frozen=True)
class Card:
    """What a card is made of."""

    run: Run
    base: Base
    settings: Mapping[str, object]
    rows: Mapping[str, int]
    """Of the dataset, by split."""
    files: tuple[WrittenFile, ...]
    has_peft: bool
    has_modelfile: bool
    """Whether one is among the files, which a model that does not converse has none of."""
    report: Report | None
    certificate: Certificate | None

    def text(self) -> str:
        """The card as Markdown, behind the settings that the hub reads."""
        environment = Environment(
            loader=FileSystemLoader(ASSETS),
            autoescape=False,  # Markdown, of names that are checked
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        named = FORM if self.run.imported else SETTINGS
        settings = {
            label_of(TrainConfig, name): shown_value(name, self.settings[name])
            for name in named
            if name in self.settings
        }
        body = environment.get_template(TEMPLATE).render(
            card=self, settings=settings, language=language()
        )
        front = yaml.safe_dump(self._front_matter(), allow_unicode=True, sort_keys=False)
        return f"---\n{front}---\n\n{body}"

    def _front_matter(self) -> dict[str, object]:
        front: dict[str, object] = {"language": ["ja"], "library_name": "mlx"}
        key = LICENCE_KEYS.get(self.base.licence, "other")
        if self.base.licence:
            front["license"] = key
        if self.base.licence and key == "other":
            front["license_name"] = self.base.licence
        if self.base.repository:
            front["base_model"] = self.base.repository
            front["base_model_relation"] = "adapter"
        return {**front, "tags": ["mlx", "lora", "mlx-finetuning"]}


def shown_name(model: str) -> str:
    """A model's name without the place where it lies on this machine."""
    return PurePath(model).name if PurePath(model).is_absolute() else model
