"""What a column's name says of its role: known names, names around them, and words that rule a role out.

Japanese and English put what a name is about last (担当からの回答, best answer; but 回答者, answer date),
so what stands behind a word decides more than what stands before it. Looks at names only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum

from mlx_finetuning.data_processor.readers.roles import role_of
from mlx_finetuning.language import N_

# Role → names, best first. A column plays one role.
NAMES: dict[str, tuple[str, ...]] = {
    "messages": (
        *("messages", "conversations", "conversation", "会話", "対話", "dialog", "dialogue"),
        *("turns", "chat", "やり取り", "やりとり", "conv", "convs"),
    ),
    "question": (
        *("質問", "question", "指示", "instruction", "問い", "問題", "prompt", "プロンプト"),
        *(
            "質問文",
            "質問内容",
            "問い合わせ",
            "お問い合わせ",
            "問い合わせ内容",
            "query",
            "q",
            "user",
        ),
        *("ユーザー", "設問", "発話", "问题", "questiontext", "질문", "pregunta", "frage", "問"),
        *("userinput", "userprompt", "usermessage", "ユーザー入力", "ユーザーの入力"),
        *("ユーザー発話", "human", "utterance", "inputtext"),
        *("ご質問", "想定質問", "質問例", "質問事項", "問合せ", "お問合せ", "お問い合わせ内容"),
        *(
            "お問い合わせ文",
            "questions",
            "シツモン",
            "もんだい",
            "クエリ",
            "patterns",
            "utterances",
        ),
        *("pergunta", "domanda", "вопрос", "câuhỏi", "pertanyaan", "คําถาม", "提问", "提問"),
        *("vraag", "pytanie", "soru", "السؤال", "سؤال", "प्रश्न", "fråga", "spørgsmål", "kysymys"),
        *("faq", "kundenfrage", "spørsmål", "ask", "問いかけ"),
    ),
    "context": (
        *("入力", "input", "入力文", "文脈", "context", "補足", "参考"),
        *("inputs", "inputspretokenized", "passage", "paragraph", "段落"),
    ),
    "answer": (
        *("回答", "answer", "出力", "output", "答え", "解答", "completion", "response", "応答"),
        *(
            "返答",
            "回答文",
            "回答内容",
            "返信",
            "answers",
            "a",
            "assistant",
            "アシスタント",
            "reply",
        ),
        *("アンサー", "outputs", "responses", "答案", "답변", "respuesta", "antwort", "réponse"),
        *(
            "返事",
            "返信文",
            "答",
            "正解",
            "ai",
            "bot",
            "botresponse",
            "assistantresponse",
            "ai回答",
        ),
        *("modelresponse", "modeloutput", "aiの回答", "aiの出力", "targettext"),
        *(
            "ベストアンサー",
            "最良の回答",
            "groundtruth",
            "gold",
            "golden",
            "ideal",
            "gpt",
            "chatgpt",
        ),
        *(
            "ご回答",
            "想定回答",
            "模範解答",
            "回答例",
            "返信内容",
            "カイトウ",
            "こたえ",
            "レスポンス",
            "正答",
        ),
        *("targets", "targetspretokenized", "answerkey"),
        *("resposta", "risposta", "ответ", "câutrảlời", "jawaban", "คําตอบ", "回复", "回覆"),
        *("antwoord", "odpowiedź", "cevap", "الجواب", "جواب", "उत्तर", "svar", "vastaus"),
        *("antworttext", "bestanswer", "応え", "generation"),
    ),
    "reasoning": (
        *("reasoning", "reasoningcontent", "thinking", "思考", "思考過程", "思考の過程"),
        *("推論", "推論過程", "考えた過程", "chainofthought", "cot"),
    ),
    "system": ("system", "システム", "システム文", "システムプロンプト", "systemprompt"),
    "chosen": (
        "chosen",
        "良い回答",
        "好ましい回答",
        "採用",
        "chosenresponse",
        "preferred",
        "良い例",
        *(
            "positive",
            "win",
            "better",
            "good",
            "goodanswer",
            "goodresponse",
            "良い応答",
            "良い返答",
            "好ましい応答",
            "chosenanswer",
        ),
    ),
    "rejected": (
        "rejected",
        "悪い回答",
        "好ましくない回答",
        "不採用",
        "rejectedresponse",
        "dispreferred",
        "悪い例",
        *("bad", "badanswer", "badresponse"),
        *(
            "negative",
            "lose",
            "worse",
            "悪い応答",
            "悪い返答",
            "好ましくない応答",
            "rejectedanswer",
        ),
    ),
    "text": (
        *("text", "本文", "テキスト", "文章", "content", "内容", "body"),
        *("sentence", "tweet", "ツイート"),
    ),
    "tools": ("tools", "functions", "ツール", "道具"),
    "history": ("history", "履歴", "会話履歴", "対話履歴", "chathistory", "これまでの会話"),
    "desirable": (
        "label",
        "thumbs",
        "thumbsup",
        "desirable",
        "isgood",
        "いいね",
        "評価",
        "feedback",
        "良否",
        "判定",
        "verdict",
        *("ktotag", "iscorrect", "correct", "isdesirable", "採用", "採否", "正誤", "合否"),
        *("良し悪し", "thumb", "status", "状態", "ステータス", "weight", "sampleweight", "重み"),
    ),
    "category": ("カテゴリ", "カテゴリー", "分類", "種別", "category", "ジャンル", "label"),
    "group": ("グループ", "group", "groupid", "グループid", "話題id", "話題", "topic", "topicid"),
}
ROLE_JA = {
    "messages": N_("会話"),
    "question": N_("質問"),
    "context": N_("入力（補足）"),
    "answer": N_("回答"),
    "reasoning": N_("考えた過程"),
    "system": N_("システム文"),
    "chosen": N_("良い回答"),
    "rejected": N_("悪い回答"),
    "text": N_("本文"),
    "tools": N_("ツール"),
    "history": N_("それまでの会話"),
    "desirable": N_("良し悪し"),
    "category": N_("カテゴリ"),
    "group": N_("グループ"),
}
TITLES = frozenset(
    (
        "タイトル",
        "件名",
        "題名",
        "題",
        "見出し",
        "記事名",
        "title",
        "subject",
        "headline",
        "heading",
    )
)
"""Names of what stands above an article."""
_JUDGEMENT = re.compile(
    r"(?:良い|適切|正しい|妥当|有用)(?:な|の)?(?:回答|応答|答え)?(?:です)?か|(?:^|[_ ])(?:good|correct|helpful|acceptable|appropriate)$"
)
_TITLE_TAIL = re.compile(
    r"(?:タイトル|見出し|記事名|ページ名?|[_ ](?:title|subject|headline))$|^(?:名前|name)$"
)
_BODY_TAIL = re.compile(r"(?:本文|文章|[_ ](?:contents?|body|text))$")
RATINGS = frozenset(
    "rating ratings score scores stars quality helpfulness correctness csat overall overallscore 評価 評点 評価点 点数 "
    "スコア 得点 満足度 品質 回答の評価 回答評価".split()
)
"""Names of points that an answer was given."""
MEDIA = frozenset(
    "image images img imagepath imageurl imagefile picture photo audio audios sound video videos 画像 写真 音声 動画 図".split()
)
"""Names of columns of what no text can show."""
_PERSONS = frozenset(("user", "ユーザー", "human", "ai", "bot", "assistant", "アシスタント"))
COUNTED = frozenset(("いいね", "status", "状態", "ステータス"))
"""Names of verdicts in words; numbers below them count something."""
WEIGHTS = frozenset(("weight", "sampleweight", "重み"))
"""Names of how much a row counts, 0 to 1."""
_VARIANTS = ("言い換え", "別の聞き方", "類似質問", "同義質問", "paraphrase")
# Words that make a name of more than one word a question's or an answer's, where they end it.
_WORDS = {
    "question": (
        *("質問", "問い合わせ", "設問", "問い", "問題", "指示", "プロンプト"),
        *("question", "prompt", "instruction", "query"),
    ),
    "answer": (
        *("回答", "返答", "解答", "答え", "応答", "返信", "出力", "アンサー"),
        *("answer", "response", "completion", "output", "reply"),
    ),
}
# Words that may mean it: to be confirmed.
_WEAK = {
    "question": (
        *("相談", "相談内容", "用件", "要望", "依頼", "依頼内容", "困りごと", "リクエスト", "症状"),
        *(
            "お客様の声",
            "ご意見",
            "意見",
            "メッセージ",
            "message",
            "原文",
            "用語",
            "単語",
            "見出し語",
        ),
        *("表面", "word", "request", "inquiry", "enquiry", "source", "term", "src", "article"),
        *("issue", "problem", "trouble", "トラブル", "不具合", "description", "表", "front"),
        *("document", "passage", "記事", "口コミ", "クチコミ", "レビュー", "レビュー本文"),
        *("文書", "元の文章", "原稿", "メール本文", "受信メール", "受信本文", "受信内容"),
    ),
    "answer": (
        *(
            "対応",
            "応対",
            "応対内容",
            "対応内容",
            "対応結果",
            "対応方法",
            "対処",
            "対処法",
            "対処方法",
            "解決",
            "解決策",
        ),
        *(
            "解決方法",
            "解決法",
            "案内",
            "案内内容",
            "説明",
            "解説",
            "意味",
            "定義",
            "訳",
            "訳文",
            "翻訳",
        ),
        *("要約", "裏面", "solution", "resolution", "explanation", "definition", "translation"),
        *(
            "summary",
            "target",
            "reaction",
            "reference",
            "アドバイス",
            "advice",
            "解",
            "meaning",
            "訳語",
        ),
        *("語義", "語釈", "訳語", "解釈", "tgt", "abstract", "後続文", "裏", "back", "code", "sql"),
    ),
}
# Of these weak words the cells are short: a term and its meaning.
_TERMS = (
    *("用語", "単語", "見出し語", "表面", "term", "word"),
    *("意味", "語義", "語釈", "訳", "訳語", "定義", "裏面", "解", "表", "裏", "front", "back"),
)
_NAMED_ROLES = (
    *("messages", "question", "context", "answer", "text"),
    *("reasoning", "system", "chosen", "rejected"),
)
# Cells hold these as values, too (a speaker, a verdict, a remark): they alone tell no header.
_ALSO_VALUES = frozenset(
    "ユーザー アシスタント システム human ai bot gpt chatgpt gold golden ideal 正解 採用 不採用 補足 参考 body "
    "turns chat dialog dialogue utterance 発話 推論 思考 thinking preferred".split()
)
ROLES = {
    **{name: role for role in _NAMED_ROLES for name in NAMES[role] if name not in _ALSO_VALUES},
    # A weak word that ends so (対応内容) is a doubtful role, and a name beyond doubt.
    **{name: role for role, names in _WEAK.items() for name in names if name.endswith("内容")},
}
"""Names by which a row of cells shows itself a header, with what their columns play."""
OTHER_NAMES = frozenset(
    (
        *(*TITLES, *_TERMS, *NAMES["category"], *NAMES["group"]),
        *"番号 no no. # id 項番 連番 通番 管理番号 受付番号 日付 日時 更新日 作成日 登録日 受付日 回答日".split(),
        *"年月日 時刻 タイムスタンプ 氏名 名前 担当 担当者 回答者 質問者 部署 部門 部署名 状態 ステータス".split(),
        *"対応 対応状況 備考 メモ 区分 種類 大分類 中分類 小分類 タグ キーワード 説明 meaning definition".split(),
        *"件数 人数 url リンク 出典 根拠 優先度 重要度 商品名 価格 金額 数量 合計 公開 公開可否 言語 name date time".split(),
        *"timestamp status tag tags note notes remarks source url owner type".split(),
    )
)
"""Names of columns that are neither, but stand in headers beside them."""
LANGUAGES = frozenset(
    "日本語 和文 英語 英文 中国語 韓国語 フランス語 ドイツ語 スペイン語 ベトナム語 ポルトガル語 japanese english chinese "
    "korean french german spanish vietnamese portuguese ja jp en zh ko fr de es vi pt jpn eng".split()
)
"""Names of columns that hold a text in that language."""
_SAID = re.compile(
    "(?:の|側の?)?(?:発言|発話|メッセージ|台詞|セリフ|返事|messages?|utterances?|text|turn|says)$"
)
# Before a word these change nothing of what it means.
_HARMLESS_HEAD = re.compile(
    "(?:よくある|想定|模範|標準|公式|faq|(?:弊社|当社)(?:から)?)?の?(?:ご|お|御)?"
)
_HARMLESS_TAIL = re.compile(
    r"(?:の?(?:文|内容|本文|文章|欄|例|案|候補|テキスト|メッセージ|詳細|全文|事項|文面|text|body|content"
    r"|contents|message|string|value|raw|full|ja|jp|japanese|ja_jp))*"
)
_TEXT_TAIL = re.compile("(?:の?(?:文|内容|本文|文章|欄|詳細|概要|要旨|コメント))+$")
# Behind a word: what is then told of is somebody, some time, a flag, a number, …
_FOREIGN_TAIL = re.compile(
    "者|主|元|先|人|日(?!本)|時|月|年|期|番号|フラグ|可否|有無|要否|要不要|希望|済|状態|状況|ステータス|進捗|担当"
    "|部署|部門|氏名|名|メール|アドレス|電話|リンク|件数|数|率|評価|満足度|点|スコア|種別|種類|区分|分類"
    "|カテゴリ|ジャンル|タイプ|方法|手段|経路|媒体|言語|文字数|長さ|権限|公開|承認|確認|対象|範囲|順|優先"
    "|重要度|難易度|根拠|理由|ソース|出典|参照|ファイル|画像|添付|コード|キー|タグ|履歴|なし|無し|不要|中$"
    "|待ち|完了|no$|id$|url|link|flag|date"
)
_FOREIGN_TOKENS = frozenset(
    "id ids uid at date datetime day time timestamp ts flag status state by from to user username author "
    "name email mail address url link uri count num number no total type kind category class lang language "
    "length len score rating rank start end is has tokens hash created updated index idx position source "
    "public visible agent owner staff team channel method due deadline done closed open required".split()
)
_BEFORE_JA = re.compile(
    "(?:(?:未|無|非|不|要|既|済)(?:み|の)?|誤|誤った|間違った|悪い|不適切な|不正|避けたい)$"
)
_REMARK = re.compile(r"\((.*?)\)|\[(.*?)\]")
# A remark in brackets that makes the column one of people or dates: its cells decide.
_FOREIGN_REMARK = re.compile(
    "(?:者名|氏名|名前|(?<=.)日|日付|日時|時刻|番号|件数|文字数|id|フラグ|有無|可否|url)$"
)
# Of two columns of a role: the one that was put right, and the one that was to be put right.
_PREFERRED = re.compile(
    "(?:修正|添削|改訂|改定|確認|校正|訂正|変更|編集|レビュー|更新)(?:後|済|版)|修正(?:回答|文)|正しい|正解|確定|最終|模範|新(?!規)"
    "|^ok|担当者|職員|日本語|和文|\\([日和]\\)|改善"
)
_AVOIDED = re.compile(
    "(?:修正|添削|改訂|改定|確認|校正|訂正|変更|編集|レビュー|更新)前|旧|下書き|案$|仮|一次|初回|原案|誤|^ng"
    "|受験者|受講者|生徒|学生|chatgpt|^ai(?![a-z])|生成|モデル|英語|英文|\\([英中韓]\\)|メモ|自動"
)
_PREFERRED_TOKENS = frozenset(
    "corrected revised reference gold golden final fixed reviewed edited human best expert correct ideal "
    "preferred improved ja jp japanese ok "
    "truth".split()
)
_AVOIDED_TOKENS = frozenset(
    "model bot ai chatgpt gpt llm generated draft raw old original previous initial student predicted "
    "prediction en english ng".split()
)
_BAD = ("incorrect", "wrong", "bad", "rejected", "negative", "false", "distractor")
_REQUEST_TAIL = re.compile(
    "(?:を|は|について|に関して)(?:お|ご|御)?(?:書|記入|記載|入力|教|選|聞|述|どうぞ|詳|具体|自由|こちら|できるだけ).*$"
)
_NUMBER_BEHIND = re.compile(
    r"^(?P<base>.*?[^\d\s_\-.(（])(?:その|案|候補|例|no\.?|#)?[\s_\-.]*[(（]?(?P<number>\d{1,3})[)）]?$"
)
_NUMBER_BEFORE = re.compile(
    r"^第?(?P<number>\d{1,2})(?:つ目の|番目の|個目の|の|\.|\s|_)?(?P<base>\D.*)$"
)
_LETTER_BEHIND = re.compile(r"^(?P<base>.*[^a-z\s_\-(])[\s_\-]*[(]?(?P<number>[a-e])[)]?$")
_REPEATED = re.compile(r"^(?P<base>.*)（(?P<number>\d+)列目）$")
_LONGEST = 200
"""Letters of a name that are looked at: a header may be a whole text."""
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class NameMatch(IntEnum):
    """How well a name fits a role."""

    RULED_OUT = -1
    """It speaks of the role, but is somebody, some time, a flag or a number (回答者, question_id)."""
    NONE = 0
    PART = 1
    """The word stands somewhere in it."""
    WEAK = 2
    """A word that may mean the role (対応)."""
    HEAD = 3
    """It ends with the word (担当からの回答)."""
    EXACT = 4


@dataclass(frozen=True)
class Numbered:
    """A column's name apart from its number (回答2, 第2回答, answer_2)."""

    base: str
    number: int | None


def key(name: str) -> str:
    """A header without case, width, spaces, underscores and remarks in brackets."""
    # A cell may hold a million signs, and brackets that are never closed take quadratic time.
    folded = unicodedata.normalize("NFKC", name[:_LONGEST]).casefold()
    return re.sub(r"\(.*?\)|\[.*?\]|【(?:必須|任意)】|[\s_\-*:★※◆■●【】]|(?<=^[qa])\.$", "", folded)


def base_name(cell: str) -> str:
    """A cell as `key` writes it, without a number: what it would name as a column."""
    return numbered(cell).base


def role_named(cell: str) -> str | None:
    """The role that a cell names, by itself and beyond doubt (質問, 回答2)."""
    return ROLES.get(base_name(cell))


def numbered(column: str) -> Numbered:
    """The name in `key`'s form and its number; None where it has none."""
    column = column[:_LONGEST]
    repeated = _REPEATED.match(column)
    if repeated:
        return Numbered(key(repeated["base"]), int(repeated["number"]))
    folded = unicodedata.normalize("NFKC", column).casefold().strip()
    for pattern in (_NUMBER_BEHIND, _NUMBER_BEFORE, _LETTER_BEHIND):
        match = pattern.match(folded)
        if match and key(match["base"]):
            sign = match["number"]
            number = int(sign) if sign.isdigit() else ord(sign) - ord("a") + 1
            return Numbered(key(match["base"]), number)
    return Numbered(key(column), None)


def preference(column: str) -> int:
    """Above 0 for what was put right (修正後の回答), below for what was to be (AIの回答)."""
    folded = unicodedata.normalize("NFKC", column[:_LONGEST])
    tokens = {*re.findall("[a-z]+", _CAMEL.sub(" ", folded).casefold())}
    folded = folded.casefold()
    better = _PREFERRED.search(folded) is not None or bool(tokens & _PREFERRED_TOKENS)
    worse = _AVOIDED.search(folded) is not None or bool(tokens & _AVOIDED_TOKENS)
    return better - worse


def is_person(column: str) -> bool:
    """Whether the name is of who speaks, and cells below it may be people's names (回答（担当者）)."""
    folded = unicodedata.normalize("NFKC", column[:_LONGEST])
    remarks = ("".join(found).strip() for found in _REMARK.findall(folded))
    return key(column) in _PERSONS or any(remark.endswith(("者", "担当")) for remark in remarks)


def speaker(column: str) -> str | None:
    """The role whose words are below a name of somebody who speaks (お客様, agent_message)."""
    who = role_of(_SAID.sub("", key(column)))
    return {"user": "question", "assistant": "answer"}.get(who or "")


def is_title(column: str) -> bool:
    """Whether the name is of what stands above an article (件名, post_title)."""
    return key(column) in TITLES or _TITLE_TAIL.search(_folded(column)) is not None


def is_judgement(column: str) -> bool:
    """Whether the name asks for good or bad (良い回答か, answer_is_correct)."""
    return _JUDGEMENT.search(_folded(column)) is not None


def is_body(column: str) -> bool:
    """Whether the name ends as those of plain text do (記事本文, post_content)."""
    return _BODY_TAIL.search(_folded(column)) is not None


def _folded(column: str) -> str:
    return unicodedata.normalize("NFKC", column[:_LONGEST]).casefold().strip()


def is_term(column: str) -> bool:
    """Whether cells below the name are short (用語, 意味)."""
    return _polished(column).endswith(_TERMS)


def name_match(column: str, role: str) -> NameMatch:
    """How well the name fits `question` or `answer`."""
    column = column[:_LONGEST]
    folded = unicodedata.normalize("NFKC", column).casefold()
    remarks = ("".join(found).strip() for found in _REMARK.findall(folded))
    if any(_FOREIGN_REMARK.search(remark) for remark in remarks):
        return min(NameMatch.PART, name_match(_REMARK.sub("", folded), role))
    if "/" in folded:  # 質問内容／要望
        return min(NameMatch.HEAD, max(name_match(part, role) for part in folded.split("/")))
    base = _polished(column)
    if base in NAMES[role] or key(column) in NAMES[role] or numbered(column).base in NAMES[role]:
        return NameMatch.EXACT
    if role == "question" and any(base.startswith(word) for word in _VARIANTS):
        return NameMatch.EXACT
    if _SAID.search(key(column)) and speaker(column) == role:  # 質問者の発言 is no person
        return NameMatch.WEAK
    best = NameMatch.NONE
    words = re.sub(r"\(.*?\)", " ", unicodedata.normalize("NFKC", column))
    tokens = re.findall("[a-z]+", _CAMEL.sub(" ", words).casefold())
    for word in _WORDS[role]:
        found = _english(tokens, word) if word.isascii() else _japanese(base, word)
        if found is NameMatch.RULED_OUT:
            return found
        best = max(best, found)
    # Of weak words the Japanese ones may end a longer name.
    weak = _WEAK[role]
    ends = tuple(word for word in weak if len(word) > 1 and not word.isascii())
    stem = _TEXT_TAIL.sub("", base)
    is_weak = base in weak or key(column) in weak or base.endswith(ends) or stem.endswith(ends)
    if best is NameMatch.NONE and (is_weak or speaker(column) == role):
        best = NameMatch.WEAK
    return best


def is_variant(column: str) -> bool:
    """Whether the column says a question in other words (言い換え1)."""
    return any(key(column).startswith(word) for word in _VARIANTS)


def _polished(column: str) -> str:
    """The name's key without number, honorifics and requests (ご質問をお書きください)."""
    base = re.sub("問い?合わ?せ", "問い合わせ", numbered(column).base)
    base = _REQUEST_TAIL.sub("", base).rstrip("。?!:")
    return re.sub("^(?:ご|お|御)(?=[一-鿿])", "", base)


def _japanese(base: str, word: str) -> NameMatch:
    at = base.rfind(word)
    if at < 0:
        return NameMatch.NONE
    before, behind = base[:at], base[at + len(word) :]
    if _BEFORE_JA.search(before) or _FOREIGN_TAIL.search(behind):
        return NameMatch.RULED_OUT
    if _HARMLESS_TAIL.fullmatch(behind):
        # Who asks goes without saying, but is not who answers.
        asker = "^お?(?:客様|客|利用者)(?:から)?の" if word in _WORDS["question"] else "^$"
        return (
            NameMatch.EXACT
            if _HARMLESS_HEAD.fullmatch(re.sub(asker, "", before))
            else NameMatch.HEAD
        )
    return NameMatch.PART


def _english(tokens: list[str], word: str) -> NameMatch:
    named = [at for at, token in enumerate(tokens) if token in (word, word + "s")]
    if not named:
        # Of answered, questioner and the like, which are one word, nothing is to be hoped.
        is_derived = any(token.startswith(word) or token.endswith(f"un{word}") for token in tokens)
        return NameMatch.RULED_OUT if is_derived else NameMatch.NONE
    at = named[-1]
    before, behind = tokens[:at], tokens[at + 1 :]
    is_count = {"no", "num", "number", "date", "time", "id", "count", "un", *_BAD} & {*before}
    if before[:1] in (["is"], ["has"]):
        return NameMatch.RULED_OUT
    # Whom an answer comes from ends a sentence (Reply from staff); alone it names a person.
    if behind[:1] == ["from"] and len(behind) > 1 and not {*behind[2:]} & _FOREIGN_TOKENS:
        return NameMatch.HEAD
    if is_count or _FOREIGN_TOKENS & {*behind}:
        return NameMatch.RULED_OUT
    if all(_HARMLESS_TAIL.fullmatch(token) for token in behind):
        return NameMatch.HEAD if before else NameMatch.EXACT
    return NameMatch.PART
