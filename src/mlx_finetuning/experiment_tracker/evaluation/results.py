"""What `report.json` holds: figures of both models, judgements, answers. Plain data; loads no NumPy.

`report` makes it. Fields with a default were added later.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlx_finetuning.language import N_, _
from mlx_finetuning.utils import goals

UNFINISHED = N_("（考えている途中で終わりました）")
LIGHTS = {"good": "○", "warning": "△", "bad": "×"}
"""By the level of a judgement: what needs neither colour nor a font with emoji."""
MARKS = "○△？×"
"""Good, borderline, unsure and wrong answers, in the order that they are shown."""
MARKS_JA = {"○": N_("一字一句同じ"), "△": N_("要点が合う"), "？": N_("要確認"), "×": N_("まちがい")}
"""What each is called, wherever answers are counted."""
MARK_OF = {"exact": "○", "contains": "△", "unsure": "？", "wrong": "×", "empty": "×"}
"""By how right an answer is."""
UNSURE_JA = N_("「要確認」は、言い方が違うため、合っているかを機械では決められない答えです。")
THINKING_JA = N_("考えてから答えるか")
"""Title of the judgement that only models have that may think."""
REFUSING_JA = N_("知らないことを断るか")
"""Title of the judgement on data with questions that it does not answer."""
NECESSITY_JA = N_("学習しなくても足りるか")
SPLITS_JA = {
    "train": N_("教えた行"),
    "valid": N_("教えていない行（検証）"),
    "test": N_("教えていない行"),
}


def rows_of(split: str) -> str:
    """What the rows of a split are called within a sentence; nothing for none."""
    names = {
        "train": _("教えた行", "within"),
        "valid": _("教えていない行（検証）", "within"),
        "test": _("教えていない行", "within"),
    }
    return names.get(split, "")


# --- figures -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def is_above_zero(self) -> bool:
        """Surely: the whole interval is."""
        return self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Surely: the whole interval is."""
        return self.high < 0


@dataclass(frozen=True)
class LossFigures:
    """Of one model on some rows; None where there is no target."""

    loss: float | None = None
    """Nats per supervised token."""
    loss_interval: tuple[float, float] | None = None
    perplexity: float | None = None
    perplexity_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class AnswerFigures:
    """Means of the scores of one model's answers, and the share that ended by itself; None without
    an answer."""

    exact: float | None = None
    contains: float | None = None
    chrf: float | None = None
    rouge_l: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class ModelFigures(AnswerFigures, LossFigures):
    """Of one model on a split."""


@dataclass(frozen=True)
class Preference:
    """The pairs of a split, of which both answers fit; of answers that are judged by themselves, each good
    one with each bad one."""

    pairs: int
    base_accuracy: float
    """Share of pairs whose better answer is the likelier one."""
    tuned_accuracy: float
    base_margin: float
    tuned_margin: float
    widened: float
    """Share of pairs whose margin has grown: what DPO calls accuracy."""
    change: Interval
    """Of the margin, paired."""


@dataclass(frozen=True)
class LayerChange:
    """How much training changed one block."""

    layer: int
    norm: float
    """Frobenius norm of the change of all its weights."""
    relative: float | None
    """The same by the norm of the weights it is added to."""


@dataclass(frozen=True)
class AdapterChange:
    """How much training changed the weights."""

    norm: float
    is_zero: bool
    layers: tuple[LayerChange, ...]


# --- judgements --------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A judgement, for programs and for people."""

    state: str
    level: str
    """good, warning or bad: how it is coloured."""
    text: str
    evidence: tuple[str, ...] = ()
    advice: str = ""

    @property
    def line(self) -> str:
        """The text behind its light, for lists and terminals."""
        return f"{LIGHTS[self.level]} {self.text}"

    @property
    def right_share(self) -> float | None:
        """Of right answers; None where none were counted."""
        return None


@dataclass(frozen=True, kw_only=True)
class Learned(Verdict):
    """Whether the run learned what it was meant to."""

    learned: bool


@dataclass(frozen=True, kw_only=True)
class GeneralKind:
    """The general questions of one kind."""

    kind: str
    questions: int
    could: int
    still_can: int


@dataclass(frozen=True, kw_only=True)
class Forgetting(Verdict):
    """Whether what the base could answer is still answered."""

    questions: int
    could: int
    """Of them, those that the base answered rightly."""
    still_can: int
    """Of those, the ones that the tuned model does."""
    base: LossFigures
    tuned: LossFigures
    change: Interval | None
    kinds: tuple[GeneralKind, ...]
    lost: tuple[Mapping[str, str | None], ...]
    """`question`, `base` and `tuned` of what only the base could answer."""
    kept: Interval | None = None
    """Share of what the base could answer; None in reports of older versions, or of nothing."""


@dataclass(frozen=True, kw_only=True)
class Memorising(Verdict):
    """Whether trained answers come out where they should not."""

    verbatim: int
    """Trained questions that only the tuned model answers word by word."""
    of: int
    """Trained questions."""
    parroted: tuple[Mapping[str, str | None], ...]
    """`question` and `answer` of general questions that got a trained answer."""
    personal: tuple[str, ...]
    """Kinds of personal data, in Japanese; shown with `_`."""


@dataclass(frozen=True, kw_only=True)
class Stopping(Verdict):
    """Whether answers end by themselves; shares."""

    answers: int
    base: float | None
    tuned: float | None


@dataclass(frozen=True, kw_only=True)
class Thinking(Verdict):
    """Whether answers are thought over; shares, and how many never came from it to an answer."""

    trained: bool
    answers: int
    base: float | None
    tuned: float | None
    base_unfinished: int
    tuned_unfinished: int


@dataclass(frozen=True, kw_only=True)
class Refusing(Verdict):
    """Whether the tuned model says that it does not know what the data does not tell. Counts."""

    unanswerable: int
    """Questions that the data does not answer."""
    refused: int
    confident_wrong: int
    """Of them, those that were answered all the same."""
    known: int
    """Questions that the data answers, taught or in other words."""
    known_right: int
    known_wrong: int
    """Answered wrongly; those that were refused not among them."""
    known_refused: int
    held_out: bool
    """Whether the questions without an answer were not taught."""


@dataclass(frozen=True, kw_only=True)
class Necessity(Verdict):
    """Whether training was needed; shares, or nearness, by the goal's measure."""

    questions: int
    tuned: float
    whole: float
    """The base with as many rows in its question as fit."""
    whole_rows: int
    of_rows: int
    nearest: float
    """The base with the nearest rows in its question."""


@dataclass(frozen=True)
class Tally:
    """How right a model's answers to some questions are."""

    asked: int
    exact: int
    """Word for word."""
    contains: int
    """In other words, or with more around it."""
    empty: int
    base_right: int
    """That the model answered before, either way."""
    unsure: int = 0
    """In other words of which only a person can tell whether they are right."""

    @property
    def right(self) -> int:
        """Word for word or in other words."""
        return self.exact + self.contains

    @property
    def share(self) -> float:
        """Of right answers; 0 of none."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def most_share(self) -> float:
        """Of right answers, if all that are unsure are right."""
        return (self.right + self.unsure) / self.asked if self.asked else 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome(Verdict):
    """The first line: what the run came to, by its goal's own measure, and the one thing to do next."""

    goal: str
    """A key of `utils.goals`."""
    action: str
    """A key of `outcome.ACTIONS_JA`, in whose words `advice` is."""
    ending: str = ""
    """Diverged, stopped early, past its best, in words; empty for a run that ended whole."""
    taught: Tally | None = None
    held_out: Tally | None = None
    """Other wordings for a FAQ, untaught questions for other goals."""
    held_out_ja: str = N_("教えていない質問")
    """What those are called; shown with `_`."""

    @property
    def right_share(self) -> float | None:
        """To taught questions for a FAQ, to untaught ones for labels."""
        if self.goal not in goals.COUNTED:
            return None
        tallies = (
            (self.taught, self.held_out) if self.goal == "faq" else (self.held_out, self.taught)
        )
        main = next((tally for tally in tallies if tally is not None), None)
        return None if main is None else main.share


# --- the report --------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """One question with the answers of both models, and their scores from 0 to 1."""

    row: int
    question: str
    expected: str
    base: str
    tuned: str
    base_exact: bool
    tuned_exact: bool
    tuned_contains: bool
    base_chrf: float
    tuned_chrf: float
    base_rouge_l: float
    tuned_rouge_l: float
    ended: bool
    """The tuned model's answer, by itself."""
    base_reasoning: str = ""
    tuned_reasoning: str = ""
    kind: str = ""
    """How near the question is to what was trained; of a split's answers."""
    rightness: str = ""
    """Of the tuned model's answer: `exact`, `contains`, `unsure`, `wrong` or `empty`."""

    @property
    def mark(self) -> str:
        """○ word for word, △ in other words, ？ for a person to tell, × for the rest."""
        if self.rightness:
            return MARK_OF[self.rightness]
        return "○" if self.tuned_exact else "△" if self.tuned_contains else "×"

    @property
    def taught_ja(self) -> str:
        """Whether the row was trained on, for people."""
        words = {
            "trained": _("教えた"),
            "trained_refusal": _("教えた（答えのない質問）"),
            "refusal": _("教えていない（答えのない質問）"),
            "paraphrase": _("教えていない（別の聞き方）"),
        }
        return words.get(self.kind, _("教えていない"))

    @property
    def shown(self) -> tuple[str, str]:
        """The answers for people, base first; an answer that was never reached is named so."""
        return (
            self.base or _(UNFINISHED) * bool(self.base_reasoning),
            self.tuned or _(UNFINISHED) * bool(self.tuned_reasoning),
        )


def examples(answers: Sequence[Answered], count: int) -> list[Answered]:
    """A few of them, good, borderline and wrong ones in this order, and of each as many as there are
    of the others."""
    by_mark = [[one for one in answers if one.mark == mark] for mark in MARKS]
    chosen = [one for rank in itertools.zip_longest(*by_mark) for one in rank if one is not None]
    return sorted(chosen[:count], key=lambda one: MARKS.index(one.mark))


@dataclass(frozen=True)
class SplitReport:
    """Both models on the rows of a split."""

    rows: int
    of_rows: int
    """Rows there were to choose from."""
    base: ModelFigures
    tuned: ModelFigures
    change: Interval | None
    """Of the loss, paired."""
    answers: tuple[Answered, ...]
    preference: Preference | None = None

    def marked(self, mark: str) -> int:
        """How many of the tuned model's answers are good, borderline or wrong."""
        return sum(one.mark == mark for one in self.answers)


@dataclass(frozen=True)
class QuestionsReport:
    """Both models' answers to one kind of questions."""

    title: str
    rows: int
    base: AnswerFigures
    tuned: AnswerFigures
    change: Mapping[str, Interval | None]
    """By score."""
    answers: tuple[Answered, ...]
    """Of reworded questions; the others stand in their splits."""


@dataclass(frozen=True)
class Continuation:
    """The run that was continued, asked the same questions as the one that continues it."""

    run_id: str
    text: str
    """For people: both runs' figures beside each other."""
    first_line: str
    """What is said of the former run where there is room for one thing."""
    losses: Mapping[str, float | None]
    """Of the former run, by split."""
    change: Interval | None
    """Of the loss on the judged split from the former run to this one, paired."""


@dataclass(frozen=True)
class ReportOrigin:
    """All that is needed to make the run and its report again."""

    dataset_sha256: str
    """At the start of the run."""
    dataset_changed: bool
    """Whether the dataset is another one by now."""
    created_at: str
    training: Mapping[str, object]
    """The run's settings."""
    versions: Mapping[str, str]
    evaluated_at: str
    evaluation: Mapping[str, object]
    """The evaluation's settings."""
    seed: object = None
    """The run's."""
    error: str = ""
    """Code of the error the run ended with."""


Curve = tuple[tuple[int, float | None], ...]
"""Updates with losses; None, in reports of older versions, for what is no finite number."""


@dataclass(frozen=True)
class Report:
    """A run's `report.json`."""

    run_id: str
    model: str
    dataset: str
    verdict: Learned
    forgetting: Forgetting
    memorising: Memorising
    stopping: Stopping
    splits: Mapping[str, SplitReport]
    questions: Mapping[str, QuestionsReport]
    """By how near they are to what was trained."""
    adapter: AdapterChange
    curves: Mapping[str, Curve]
    """Losses of `train` and `valid`."""
    origin: ReportOrigin
    thinking: Thinking | None = None
    """None where the model's template knows of no reasoning."""
    refusing: Refusing | None = None
    """None where the data has no questions without an answer."""
    necessity: Necessity | None = None
    """None where it was not asked for."""
    outcome: Outcome | None = None
    """The first line; None in reports of older versions, whose `verdict` goes by the loss alone."""
    before: Continuation | None = None
    """Of a run that continues another one, whose adapter is still there."""

    @property
    def first_line(self) -> Verdict:
        """What is to be said of the run where there is room for one thing."""
        return self.outcome or self.verdict

    @property
    def judgements(self) -> tuple[tuple[str, Verdict], ...]:
        """Every judgement with its title, as they are shown: one of them says what to do next."""
        others = [
            (_("ほかのことを忘れていないか"), self.forgetting),
            (_("丸暗記していないか"), self.memorising),
            (_("答えを自分で終えるか"), self.stopping),
            *([(_(REFUSING_JA), self.refusing)] if self.refusing else []),
            *([(_(THINKING_JA), self.thinking)] if self.thinking else []),
            *([(_(NECESSITY_JA), self.necessity)] if self.necessity else []),
        ]
        first = self.first_line
        if self.outcome is not None:
            first = replace(first, evidence=(*self.outcome.evidence, *self.verdict.evidence))
            others = [(title, replace(judged, advice="")) for title, judged in others]
        return ((_("学習できたか"), first), *others)
