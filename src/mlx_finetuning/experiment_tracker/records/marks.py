"""What people said of a run's answers: right or wrong, and what would have been right.

`marks.json` in the run's folder keeps every step in its order, so that the last one can be taken
back. A mark belongs to one answer to one question; a later one on it takes its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from mlx_finetuning import files
from mlx_finetuning.jobs import jobs
from mlx_finetuning.workspace import RunPaths

Prompt = tuple[str, ...]
"""What was said up to the question and with it, in turn, the user first."""


@dataclass(frozen=True)
class Mark:
    """What somebody said of an answer."""

    prompt: Prompt
    answer: str
    """The model's."""
    good: bool | None
    """None: a mark that was taken back."""
    correction: str = ""
    """What it should have been."""
    marked_at: str = ""


@dataclass(frozen=True)
class Marks:
    """All that was said of a run's answers, the first step first."""

    steps: tuple[Mark, ...] = ()

    @property
    def current(self) -> dict[tuple[Prompt, str], Mark]:
        """What holds, by prompt and answer, in the order in which it was said."""
        found: dict[tuple[Prompt, str], Mark] = {}
        for mark in self.steps:
            found.pop((mark.prompt, mark.answer), None)
            if mark.good is not None:
                found[mark.prompt, mark.answer] = mark
        return found

    def of(self, prompt: Sequence[str], answer: str) -> Mark | None:
        """What was said of this answer; None where nothing was."""
        return self.current.get((tuple(prompt), answer))

    @property
    def said(self) -> dict[tuple[Prompt, str], bool]:
        """Whether the answer is right, by prompt and answer."""
        return {key: bool(mark.good) for key, mark in self.current.items()}

    @property
    def corrections(self) -> dict[Prompt, str]:
        """The right answers, the last one of each prompt."""
        corrected = (mark for mark in self.current.values() if mark.correction)
        return {mark.prompt: mark.correction for mark in corrected}

    def as_kto(self) -> list[dict[str, object]]:
        """Rows for KTO: every marked answer with its label, and every correction as a good one;
        nothing is learned from an answer without a word.

        Questions within a conversation need the turns before them, so with any of those all rows have
        their messages.
        """
        said = [(mark.prompt, mark.answer, bool(mark.good)) for mark in self.current.values()]
        said += [(prompt, answer, True) for prompt, answer in self.corrections.items()]
        said = [one for one in dict.fromkeys(said) if one[1].strip()]
        if all(len(prompt) == 1 for prompt, _, _ in said):
            return [
                {"prompt": prompt[0], "completion": answer, "label": good}
                for prompt, answer, good in said
            ]
        return [
            {
                "prompt": messages(prompt),
                "completion": [{"role": "assistant", "content": answer}],
                "label": good,
            }
            for prompt, answer, good in said
        ]


def messages(prompt: Sequence[str]) -> list[dict[str, str]]:
    """A prompt as chat templates take it."""
    return [
        {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(prompt)
    ]


def read(paths: RunPaths) -> Marks:
    """None where nothing was said yet. Raises RecordDamaged, NewerSchema."""
    with contextlib.suppress(FileNotFoundError):
        return files.read_record(paths.marks, Marks)
    return Marks()


def add(paths: RunPaths, mark: Mark) -> Marks:
    """Take one more step. Raises RecordDamaged, NewerSchema, DiskFull."""
    with files.alone_in(paths.folder):
        steps = (*read(paths).steps, replace(mark, marked_at=jobs.now()))
        files.write_json(paths.marks, asdict(Marks(steps)))
    return Marks(steps)


def undo(paths: RunPaths) -> Marks:
    """Take the last step back; without any nothing happens. Raises as `add`."""
    with files.alone_in(paths.folder):
        steps = read(paths).steps[:-1]
        files.write_json(paths.marks, asdict(Marks(steps)))
    return Marks(steps)
