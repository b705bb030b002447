"""Questions put to a model by MLX and by llama.cpp, greedily, and how many answers are right."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.mlx_trainer.inference import batch_generate
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.runtime import serve

SHEETS = Path(__file__).resolve().parent
MAX_TOKENS = 40


@dataclass(frozen=True)
class Question:
    text: str
    key: str
    """What a right answer contains; several, of which one is enough, are divided by `|`."""

    def is_right(self, answer: str) -> bool:
        """Whole words, in either case: `Nile` is not in `juvenile`, nor `7` in `1978`."""
        patterns = (rf"(?<!\w){re.escape(key)}(?!\w)" for key in self.key.split("|"))
        return any(re.search(pattern, answer, re.IGNORECASE) for pattern in patterns)


@dataclass(frozen=True)
class Fact:
    name: str
    wordings: tuple[str, ...]
    answer: str
    key: str


def facts() -> list[Fact]:
    """Sixty facts about a company that does not exist, each in three wordings."""
    rows = _rows("facts_en.tsv")
    wordings = ("first", "second", "third")
    return [
        Fact(row["fact"], tuple(row[name] for name in wordings), row["answer"], row["key"])
        for row in rows
    ]


def general() -> list[Question]:
    """What a small English model knows before it is trained."""
    return [Question(one.question, one.key) for one in general_questions.questions("en")]


def write_sheet(path: Path) -> None:
    """The facts as the CSV that a user would bring."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("question", "answer", "group"))
        for fact in facts():
            writer.writerows((text, fact.answer, fact.name) for text in fact.wordings)


def _rows(name: str) -> list[dict[str, str]]:
    with (SHEETS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def by_mlx(
    folder: Path, adapter: Path | None, questions: Sequence[str], max_tokens: int = MAX_TOKENS
) -> list[str]:
    loaded = load(folder, adapter)
    prompts = [loaded.render([{"role": "user", "content": text}], ask=True) for text in questions]
    return [answer.text for answer in batch_generate.answers(loaded, prompts, max_tokens, 32)]


def by_llama_cpp(gguf: Path, questions: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[str]:
    with serve(gguf) as client:
        return [
            client.chat([{"role": "user", "content": text}], max_tokens=max_tokens).text
            for text in questions
        ]
