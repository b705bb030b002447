"""The first line of a run: right, right in other words or wrong; a light and one thing to do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mlx_finetuning.config import GOALS, EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation import general_questions, questions, report
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.outcome import ACTIONS_JA, Evidence, judge
from mlx_finetuning.experiment_tracker.evaluation.results import (
    LayerChange,
    Outcome,
    Report,
    Tally,
    examples,
)
from mlx_finetuning.experiment_tracker.evaluation.rightness import common_words, rightness
from mlx_finetuning.jobs.ending import WHOLE, Ending, ending
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.jobs.results import TrainResult

# --- right, right in other words, wrong --------------------------------------------------

PRICE, ASKED = "ハヤセの値段は1,200円です。", "ハヤセはいくらですか？"
SEAT = "Dunlin Ltd is headquartered in Aberwick."


@pytest.mark.parametrize(
    ("answer", "expected", "question", "found"),
    [
        (PRICE, PRICE, ASKED, "exact"),
        ("ハヤセの値段は１，２００円です。", PRICE, ASKED, "exact"),
        ("はい、ハヤセの値段は1,200円です。どうぞ。", PRICE, ASKED, "contains"),
        ("お値段は1200円になります。", PRICE, ASKED, "contains"),
        ("ハヤセの値段は1,300円です。", PRICE, ASKED, "wrong"),
        ("ハヤセの値段は1,200円、税込1,320円です。", PRICE, ASKED, "wrong"),
        ("ハヤセの値段は200円です。", PRICE, ASKED, "wrong"),
        ("わかりません。", PRICE, ASKED, "wrong"),
        (" ", PRICE, ASKED, "empty"),
        ("is headquartered in Aberwick.", SEAT, "Where is Dunlin Ltd?", "contains"),
        ("Aberwick", SEAT, "Where is Dunlin Ltd headquartered?", "contains"),
        ("Dunlin Ltd is headquartered in Aberdeen.", SEAT, "Where is Dunlin Ltd?", "wrong"),
        ("30日以内は返品できません。", "30日以内なら返品できます。", "返品できますか？", "wrong"),
        (
            "30日以内の返品を承ります。",
            "30日以内なら返品できます。",
            "返品できますか？",
            "contains",
        ),
        ("はい", "いいえ、できません。", "できますか？", "wrong"),
    ],
)
def test_right_facts_in_other_words_are_neither_exact_nor_wrong(
    answer: str, expected: str, question: str, found: str
) -> None:
    assert rightness(answer, expected, question) == found


STAFF, HOURS = "社員数は120名です。", "9時から18時までです。"


@pytest.mark.parametrize(
    ("answer", "expected", "question", "found"),
    [
        # The right fact in other words.
        ("18時までです。", "営業は午後6時までです。", "営業は？", "contains"),
        ("社員数は全部で120人です。", STAFF, "何人いますか？", "contains"),
        ("30日以内でしたら返品できます。", "三十日以内なら返品できます。", "返品は？", "contains"),
        ("参加費は50,000円となります。", "5万円です。", "参加費は？", "contains"),
        ("はい、定休日は水曜日です。", "水曜日です。", "定休日は？", "contains"),
        # A synonym looks like a mistake to a machine: neither right nor wrong.
        ("従業員数は120名です。", STAFF, "何人いますか？", "unsure"),
        ("水曜に休みます。", "定休日は水曜日です。", "休みはいつですか？", "unsure"),
        ("1200です。", PRICE, ASKED, "unsure"),
        ("パーキングには5台とめられます。", "駐車場は5台分です。", "車で行けますか？", "unsure"),
        ("もちろんです。", "はい、できます。", "できますか？", "unsure"),
        # Everything is said, and more or otherwise: may be right, is not called so.
        ("18時から9時までです。", HOURS, "営業時間は？", "unsure"),
        ("部長は佐藤で、課長は田中です。", "部長は田中で、課長は佐藤です。", "役職は？", "unsure"),
        ("裏手と正面にあります。", "裏手にあります。", "入口は？", "unsure"),
        ("定休日は水曜日と木曜日です。", "水曜日です。", "定休日は？", "unsure"),
        (f"{PRICE}3月からは1,300円です。", PRICE, ASKED, "unsure"),
        ("はい、できますとは言えません。", "できます。", "できますか？", "unsure"),
        # Mistakes.
        ("本社は神奈川県にあります。", "本社は千葉県にあります。", "本社は？", "wrong"),
        ("定休日は木曜日です。", "水曜日です。", "定休日は？", "wrong"),
        ("午後9時です。", "午前9時です。", "何時ですか？", "wrong"),
        ("30日以上です。", "30日以内です。", "期限は？", "wrong"),
        ("120円です。", "20円です。", "いくらですか？", "wrong"),
        ("5万円です。", "5円です。", "いくらですか？", "wrong"),
        ("十時からです。", "九時からです。", "何時からですか？", "wrong"),
        ("営業部の佐藤です。", "営業部の田中です。", "担当は誰ですか？", "wrong"),
        ("送料は有料です。", "無料です。", "送料は？", "wrong"),
        ("不可能です。", "可能です。", "できますか？", "wrong"),
    ],
)
def test_what_a_machine_cannot_tell_is_called_neither_right_nor_wrong(
    answer: str, expected: str, question: str, found: str
) -> None:
    assert rightness(answer, expected, question) == found


def test_a_manner_of_speaking_need_not_be_repeated() -> None:
    answers = [f"お問い合わせありがとうございます。{n}階の受付です。" for n in range(1, 7)]
    common = common_words(answers)
    assert rightness("受付は3階です。", answers[2], "受付は？", common) == "contains"
    assert rightness("受付は4階です。", answers[2], "受付は？", common) == "wrong"


# --- all outcomes ------------------------------------------------------------------------


def tally(right: int, asked: int = 20, empty: int = 0, unsure: int = 0) -> Tally:
    return Tally(asked, exact=right, contains=0, empty=empty, base_right=0, unsure=unsure)


STATES = ("learned", "unlinked", "memorised", "worse", "unchanged", "diverged", "unknown")
ENDINGS = tuple(
    Ending(state, "" if state == "whole" else "学習の終わり方。")
    for state in ("whole", "diverged", "stopped_early", "best_before_last")
)
TALLIES = (
    *(None, tally(0), tally(0, empty=20), tally(9), tally(13), tally(17), tally(20)),
    *(tally(10, unsure=2), tally(10, unsure=9), tally(0, unsure=20)),
)


def all_evidence() -> Any:
    for goal, learning, end, taught, held_out in itertools.product(
        GOALS, STATES, ENDINGS, TALLIES, TALLIES
    ):
        yield Evidence(
            goal, learning, taught=taught, held_out=held_out, ending=end, updates=100, ended=1.0
        )
    plain = Evidence("faq", "learned", taught=tally(20), held_out=tally(20), ended=1.0)
    for goal, ended, zero, changed, forgot, parrots in itertools.product(
        GOALS, (None, 0.2, 0.8, 1.0), *[(True, False)] * 4
    ):
        yield replace(
            plain,
            goal=goal,
            ended=ended,
            adapter_is_zero=zero,
            answers_changed=changed,
            forgot=forgot,
            parrots=parrots,
        )


def check(evidence: Evidence, found: Outcome) -> None:
    """What must hold of every outcome, whatever the rules are."""
    assert (found.level == "good") == (found.action == "go_on"), (evidence, found)
    assert found.level in ("good", "warning", "bad") and found.action in ACTIONS_JA
    assert found.text.endswith("。") and found.advice and "{" not in found.advice
    assert found.ending == evidence.ending.text
    if evidence.learning == "diverged" or evidence.ending.state == "diverged":
        assert (found.level, found.action) == ("bad", "lower_rate")
        return
    if evidence.adapter_is_zero or not evidence.answers_changed:
        assert found.level == "bad"
        return
    counts = [one for one in (evidence.taught, evidence.held_out) if one is not None]
    if evidence.goal in ("faq", "labels") and counts:
        shown = evidence.taught if evidence.goal == "faq" else evidence.held_out
        if shown is not None:
            assert f"{shown.asked}問中{shown.right}問に正解" in found.text
        if found.action == "judge_answers":
            assert any(one.unsure for one in counts) and found.level == "warning"
            assert all(one.most_share >= 0.7 for one in counts)
        if "しか答えられません" in found.text:
            assert evidence.held_out is not None and evidence.held_out.share < 0.5, found
        if any(one.share < 0.5 for one in counts):
            assert found.level != "good", (evidence, found)
        if found.level == "good" and evidence.taught is not None:
            assert evidence.taught.share >= 0.9
        if evidence.taught is not None and evidence.taught.share >= 0.9:
            assert found.action not in ("more_updates", "run_on", "check_pairs")
    if found.level == "good":
        assert not evidence.forgot and not evidence.parrots
        assert evidence.ended is None or evidence.ended >= 0.9
        assert evidence.goal in ("faq", "labels") or evidence.learning in ("learned", "unlinked")


def test_light_words_and_advice_never_contradict() -> None:
    actions = set()
    for evidence in all_evidence():
        found = judge(evidence)
        check(evidence, found)
        actions.add(found.action)
    assert actions | {"stop_at_best"} == set(ACTIONS_JA)  # every rule is reached


# --- runs that went wrong, planted -------------------------------------------------------


@dataclass(frozen=True)
class Grade:
    nats: float
    answer: str | None
    targets: int = 10
    ended: bool = True
    reasoning: str = ""


UNKNOWN = "わかりません。"


def row(number: int, form: str = "{}番の値段は？", group: int | None = None) -> dict[str, Any]:
    turns = (("user", form.format(number)), ("assistant", f"{number}番は{number}00円です。"))
    messages = [{"role": role, "content": content} for role, content in turns]
    return {
        "messages": messages,
        "row": number + 2,
        "group": f"g{number if group is None else group}",
    }


def graded(rows: list[dict[str, Any]], right: int, nats: float, **marks: Any) -> Measured:
    """So many of the tuned model's answers right; `marks` are of all of them."""
    answers = [
        one["messages"][-1]["content"] if at < right else "0円です。" for at, one in enumerate(rows)
    ]
    tuned = [Grade(nats + at / 100, **{"answer": text, **marks}) for at, text in enumerate(answers)]
    return Measured(
        rows, [Grade(20.0 + at / 100, UNKNOWN) for at in range(len(rows))], tuned, len(rows)
    )


def planted(
    *,
    rows: int = 20,
    taught: int = 20,
    other: int | None = 10,
    nats: float = 2.0,
    norm: float = 1.0,
    end: Ending = WHOLE,
    general: bool = True,
    goal: str = "faq",
    **marks: Any,
) -> Report:
    """A run that answers so many of `rows` taught questions and of half as many other wordings, if there are any."""
    train = [row(number) for number in range(1, rows + 1)]
    wording = "{}番はおいくらですか、教えてください"
    test = [row(number, wording) for number in range(1, rows // 2 + 1)]
    asked = general_questions.questions()
    keeps = [
        Grade(5.0, one.answer if general or at < 5 else UNKNOWN) for at, one in enumerate(asked)
    ]
    splits = {"train": graded(train, taught, nats, **marks)}
    if other is not None:
        splits["test"] = graded(test, other, nats, **marks)
    return report.build(
        Origin(
            *("run", "tiny-ja", "facts", "0" * 64, False, "2026-11-23", {}, {}, "2026-11-23"),
            metrics=[MetricsLine(120, loss=0.1)],
            ending=end,
        ),
        Findings(
            splits=splits,
            general=Measured([one.row for one in asked], keeps, keeps, len(asked)),
            trained_groups=questions.groups(train),
            layers=[LayerChange(0, norm, None)],
            goal=goal,
        ),
        EvaluateConfig(),
    )


DIVERGED = Ending("diverged", "学習は発散しました。")
EARLY = Ending("stopped_early", "早めに終わりました。")


@pytest.mark.parametrize(
    ("run", "level", "text", "action"),
    [
        ({}, "good", "教えた20問中20問に正解、別の聞き方は10問中10問に正解。", "go_on"),
        ({"taught": 8, "other": 2}, "bad", "教えた20問中8問に正解", "more_updates"),
        ({"taught": 15, "other": 5}, "warning", "まだ覚えきれていません。", "more_updates"),
        ({"taught": 15, "end": EARLY}, "warning", "まだ覚えきれていません。", "run_on"),
        ({"taught": 0, "nats": 90.0}, "bad", "学習は発散しました。", "lower_rate"),
        ({"end": DIVERGED}, "bad", "学習は発散しました。", "lower_rate"),
        ({"other": 2}, "bad", "教えた聞き方でしか答えられません。", "more_wordings"),
        (
            {"other": 6},
            "warning",
            "別の聞き方では、まだまちがえることがあります。",
            "more_wordings",
        ),
        ({"other": 0}, "bad", "教えた聞き方でしか答えられません。", "more_wordings"),
        ({"ended": False}, "bad", "ほとんどの答えが終わりません。", "longer_answers"),
        ({"answer": ""}, "bad", "20問中20問に、何も答えませんでした。", "check_text"),
        ({"norm": 0.0}, "bad", "重みが変わっていません。", "check_settings"),
    ],
)
def test_each_bad_run_gets_its_sentence(
    run: dict[str, Any], level: str, text: str, action: str
) -> None:
    made = planted(**run)
    found = made.outcome
    assert found is not None
    assert (found.level, found.action) == (level, action), found
    assert text in found.text
    # One thing to do, wherever judgements are shown.
    advised = [judged.advice for _, judged in made.judgements if judged.advice]
    assert advised == [found.advice]


def test_few_other_wordings_are_a_hint_and_no_red_light() -> None:
    evidence = Evidence("faq", "learned", taught=tally(20), ended=1.0)
    few, enough = (judge(replace(evidence, held_out=tally(0, asked))) for asked in (4, 8))
    assert (few.level, few.action) == ("warning", "more_wordings")
    assert (enough.level, enough.action) == ("bad", "more_wordings")


def test_no_evidence_is_told_twice() -> None:
    """A run of which no rows were held out is judged by its taught ones."""
    evidence = planted(other=None).judgements[0][1].evidence
    assert len(evidence) == len(set(evidence)), evidence


def test_an_adapter_that_is_not_used_is_named() -> None:
    made = planted()
    same = {
        name: Measured(one.rows, one.base, one.base, one.of_rows)
        for name, one in {
            "train": graded([row(number) for number in range(1, 21)], 0, 20.0),
        }.items()
    }
    general = [Grade(5.0, one.answer) for one in general_questions.questions()]
    rows = [one.row for one in general_questions.questions()]
    findings = Findings(
        same, Measured(rows, general, general, len(rows)), layers=[LayerChange(0, 1.0, None)]
    )
    origin = Origin("run", "m", "d", "0", False, "", {}, {}, "")
    found = report.build(origin, findings, EvaluateConfig()).outcome
    assert found is not None and made.outcome is not None
    assert (found.level, found.action) == ("bad", "check_adapter")
    assert "全く同じ" in found.text


@pytest.mark.parametrize("rows", [10, 17, 26, 40, 64, 93, 128, 170, 231, 300])
def test_numbers_of_the_first_line_are_those_of_the_report(rows: int) -> None:
    made = planted(rows=rows, taught=rows * 3 // 4, other=rows // 5)
    assert made.outcome is not None
    for name, shown in (("train", made.outcome.taught), ("test", made.outcome.held_out)):
        marks = [one.mark for one in made.splits[name].answers]
        assert shown is not None
        assert (marks.count("○"), marks.count("△")) == (shown.exact, shown.contains)
        assert len(marks) == shown.asked
        assert (
            f"{shown.asked}問中{marks.count('○') + marks.count('△')}問に正解" in made.outcome.text
        )
    assert {one.taught_ja for one in made.splits["train"].answers} == {"教えた"}
    assert all(one.taught_ja.startswith("教えていない") for one in made.splits["test"].answers)


def test_a_label_is_right_word_for_word_or_not_at_all() -> None:
    found = planted(goal="labels", answer="たぶん 1番は100円です。 かと").outcome
    assert found is not None and found.held_out is not None
    assert (found.held_out.exact, found.held_out.contains, found.level) == (0, 0, "bad")


def test_forgetting_is_judged_only_by_enough_questions() -> None:
    assert planted().forgetting.state == "kept"
    few = planted(general=False).forgetting
    assert (few.could, few.state) == (5, "unknown")
    assert few.text.startswith("判定できません")


def test_examples_are_good_borderline_and_wrong_ones_in_this_order() -> None:
    answers = planted(taught=12).splits["train"].answers
    assert [one.mark for one in examples(answers, 4)] == ["○", "○", "×", "×"]
    assert len(examples(answers, 50)) == 20


# --- how a training ended ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "best", "last", "trained", "stopped", "state"),
    [
        (3.0, 0.5, 0.5, 0.4, False, "whole"),
        (3.0, 3.0, 7.0, 8.0, False, "diverged"),
        (3.0, 2.0, 2.5, float("nan"), False, "diverged"),
        (3.0, 0.5, 0.9, 0.1, True, "stopped_early"),
        (3.0, 0.5, 0.9, 0.1, False, "best_before_last"),
        (3.0, 3.0, 3.5, 0.1, False, "best_before_last"),
        (None, None, None, 0.1, False, "whole"),
    ],
)
def test_the_end_of_a_training_is_told_by_its_losses(
    first: float | None,
    best: float | None,
    last: float | None,
    trained: float,
    stopped: bool,
    state: str,
) -> None:
    result = TrainResult(
        updates=300,
        first_valid_loss=first,
        last_valid_loss=last,
        best_valid_loss=best,
        best_update=150,
        last_loss=trained,
        stopped_early=stopped,
    )
    found = ending(result)
    assert found.state == state
    assert bool(found.text) == (state != "whole")


def test_answers_that_only_a_person_can_judge_are_said_and_count_once_judged() -> None:
    rows = [row(number) for number in range(1, 21)]
    said = [f"{number}00です" for number in range(1, 21)]
    tuned = [Grade(2.0 + at / 100, text) for at, text in enumerate(said)]
    base = [Grade(20.0 + at / 100, UNKNOWN) for at in range(len(rows))]
    asked = general_questions.questions()
    keeps = [Grade(5.0, one.answer) for one in asked]
    findings = Findings(
        splits={"train": Measured(rows, base, tuned, len(rows))},
        general=Measured([one.row for one in asked], keeps, keeps, len(asked)),
        trained_groups=questions.groups(rows),
        layers=[LayerChange(0, 1.0, None)],
    )
    origin = Origin("run", "m", "d", "0", False, "", {}, {}, "")
    found = report.build(origin, findings, EvaluateConfig()).outcome
    assert found is not None and found.taught is not None
    assert (found.taught.right, found.taught.unsure) == (0, 20)
    assert (found.level, found.action) == ("warning", "judge_answers")
    assert "教えた20問中0問に正解（ほかに要確認が20問）" in found.text
    marks = {
        ((one["messages"][0]["content"],), text): True for one, text in zip(rows, said, strict=True)
    }
    judged = report.build(origin, replace(findings, marks=marks), EvaluateConfig()).outcome
    assert judged is not None and judged.taught is not None
    assert (judged.taught.right, judged.level, judged.action) == (20, "good", "go_on")
