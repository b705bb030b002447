"""Whether the question and the answer of a pair can stand by themselves: length, language, dangling words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlx_finetuning.documents.chunks import Chunk
from mlx_finetuning.documents.pairs import Pair, Problem
from mlx_finetuning.language import _
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.japanese_utils import (
    comparison_key,
    foreign_language,
    is_mojibake,
    normalised,
    rouge_l,
)

LEAST_QUESTION, MOST_QUESTION, MOST_ANSWER = 6, 200, 800
"""Characters."""
REPEATED = 0.92
"""ROUGE-L from which an answer only repeats its question."""
_DANGLING = re.compile(
    r"上記|前述|下記|前記|後述|左記|右記|(?:以下|次|上|下|右|左)の(?:表|図|文|文章|とおり|通り|資料|一覧|説明|選択肢|内容|グラフ)|"
    r"こ(?:の|れ|こ|ちら|うした|のような|ういった)(?!え|と|ろ|ども|とし|まで)|"
    r"(?:^|[、。])(?:そ(?:の|れ(?!ぞれ)|こ|ちら)|あの|あれ|彼|彼女)|"
    r"(?<![ぁ-ん一-鿿ァ-ヶ])本(?:表|図|文|資料|書|規程|規則|条|章|節|項|ページ|文書|マニュアル)(?![一-鿿])|"
    r"(?:資料|文書|文章|本文|テキスト|表|図|パッセージ|抜粋|段落|チャンク)(?:に(?:よると|よれば|は|書|記|あ|示|基)|で(?:は|述|示|説明)|の中|中で|内で|から)|"
    r"(?:与え|提供さ|示さ|引用さ)れ(?:た|ている)|(?:同|当該)(?:表|図|条|項|資料|文書)|根拠の文|文中|"
    r"(?:passage|according to the (?:text|document|above)|the above)",
    re.IGNORECASE,
)
_ANSWER_DANGLING = re.compile(
    r"上記|下記|前述|前記|(?:以下|次)の(?:とおり|通り|表|図)(?!.*[:：\n])|(?:この|その)(?:表|図|資料|文書|文章)|資料(?:に(?:よると|よれば)|を(?:参照|ご覧))"
)
_LOOP = re.compile(r"(.)\1{9,}|(.{2,12}?)\2{4,}", re.DOTALL)
_ASKS = re.compile(r"(?:ですか|ますか|でしょうか|[?？])\s*$")
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")


def of_form(pair: Pair, chunk: Chunk) -> Iterator[Problem]:
    """Whether question and answer can stand by themselves."""
    question, answer = normalised(pair.question), normalised(pair.answer)
    if not LEAST_QUESTION <= len(question) <= MOST_QUESTION:
        yield Problem("length", _("質問が{count}文字").format(count=len(question)))
    if not 1 <= len(answer) <= MOST_ANSWER:
        yield Problem("length", _("回答が{count}文字").format(count=len(answer)))
    if found := _DANGLING.search(question) or _ANSWER_DANGLING.search(answer):
        yield Problem("dangling", found[0].strip("、。"))
    elif not facts.has_subject(question):
        yield Problem("no_subject")
    repeats = comparison_key(question) == comparison_key(answer)
    if answer and (repeats or rouge_l(question, answer) >= REPEATED or _ASKS.search(answer)):
        yield Problem("answer_is_question")
    text = chunk.whole
    for told in (question, answer):
        language = foreign_language(told)
        is_foreign = language != foreign_language(text) if language else False
        if is_foreign or (
            told == question and _JAPANESE.search(text) and not _JAPANESE.search(told)
        ):
            yield Problem("language", _(language) or _("日本語ではない文字"))
            break
    if any(is_mojibake(told) or _LOOP.search(told) for told in (question, answer)):
        yield Problem("broken_text")
