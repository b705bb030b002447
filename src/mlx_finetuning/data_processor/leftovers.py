"""What other programs leave in a text: markup, spreadsheet errors and escapes, words that stand for
nothing, pointers to another row, control tokens of chat templates. Tests of one text each; what writers
mean (`a<b`, R&D, 同上 in a sentence, code in backticks) is none of it."""

from __future__ import annotations

import re
import unicodedata

_TAGS = (
    "p|br|div|span|a|ul|ol|li|b|i|u|strong|em|h[1-6]|table|tr|td|th|tbody|thead|tfoot|img|font|pre|code"
    "|blockquote|hr|sup|sub|small|big|center|dl|dt|dd|label|input|button|form|iframe|script|style|html|body"
    "|head|section|article|header|footer|main|nav|figure|figcaption|video|audio|source|mark|del|ins|ruby|rt|rp"
    "|svg|path"
)
_ATTRIBUTE = r"""\s+[\w:.-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
TAG = re.compile(rf"<(/?)({_TAGS})((?:{_ATTRIBUTE})*)\s*(/?)>", re.IGNORECASE)
ENTITY = re.compile(
    r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});"
    # Browsers read the oldest ones without their end.
    "|&(?:nbsp|lt|gt|amp|quot)(?![A-Za-z0-9;=])"
)
QUOTED = re.compile(
    r"<!\[CDATA\[(?P<raw>.{0,2000}?)\]\]>"
    r"|\[(b|i|u|s|url|img|quote|code|size|color)(?:=[^\[\]\n]{1,200})?\](?P<said>[^\[\]]{0,2000})\[/\2\]",
    re.IGNORECASE | re.DOTALL,
)
"""Raw parts of XML, and BBCode."""
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
"""Code in Markdown: markup in it is what is talked about."""
_NAMED_TAG = re.compile(r"\s*(?:タグ|要素|という|は、?HTML|で囲|を使)")

ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""How Excel's files write what XML cannot (`_x000D_`)."""
FORMULA_TEXT = re.compile(r'\A\s*="((?:[^"]|"")*)"\s*\Z', re.DOTALL)
"""A cell that is written as a formula, to keep its zeros."""
_ERROR = re.compile(
    r"(?i:#(?:N/A!?|DIV/0!?|REF!|VALUE!|NAME\?|NULL!|NUM!|SPILL!|CALC!|FIELD!|BLOCKED!|CONNECT!|BUSY!"
    r"|UNKNOWN!|EXTERNAL!|PYTHON!|ERROR!|GETTING_DATA|N/A N/A|N/A Requesting Data\.*))"
    # Small letters without the sign at the end are a hashtag.
    r"|Loading\.{3}|読み込み中(?:\.{3})?"
    r"|#(?:REF|VALUE|NULL|NUM)|#(?:名前\?|スピル!|計算!|フィールド!|値!|ブロック!)|#{3,}|Err:\d{3}"
)
_NOTHING = frozenset(
    (
        *(
            "nan",
            "NaN",
            "NAN",
            "null",
            "NULL",
            "Null",
            "none",
            "None",
            "NONE",
            "n/a",
            "N/A",
            "N/a",
            "NA",
        ),
        *(
            "<NA>",
            "<na>",
            "NaT",
            "nil",
            "undefined",
            "(null)",
            "[null]",
            "\\N",
            "n.a.",
            "N.A.",
            "(none)",
            "<noinput>",
        ),
        *(
            "-",
            "--",
            "---",
            "－",
            "―",
            "—",
            "–",
            "ー",
            "…",
            "...",
            "・",
            "?",
            "？",
            "*",
            "/",
            "／",
        ),
        *(
            "未定",
            "未回答",
            "未記入",
            "未入力",
            "未設定",
            "未対応",
            "確認中",
            "調査中",
            "対応中",
            "検討中",
            "後日回答",
            "準備中",
            "作成中",
            "未",
            "回答待ち",
            "回答なし",
            "回答無し",
        ),
        *(
            "空欄",
            "空白",
            "(空白)",
            "（空白）",
            "ブランク",
            "無回答",
            "TBD",
            "tbd",
            "TODO",
            "todo",
            "N／A",
            "Ｎ／Ａ",
        ),
        *("[]", "{}", '""', "''", "nan nan", "inf", "-inf", "Infinity", "-Infinity"),
        *(
            "該当なし",
            "該当無し",
            "データなし",
            "データ無し",
            "情報なし",
            "要確認",
            "要検討",
            "要回答",
            "ダミー",
            "テスト",
        ),
        *(
            "てすと",
            "test",
            "Test",
            "TEST",
            "dummy",
            "TBA",
            "tba",
            "no data",
            "No data",
            "Not available",
        ),
        *(
            "後日回答します",
            "後日ご回答します",
            "後日ご連絡します",
            "追って回答します",
            "確認します",
        ),
        *("(blank)", "ここに回答を入力", "回答を入力してください", "ここに入力"),
    )
)
_FILLER = re.compile(
    r"([xX×*?・。.…\-_=/~〇○●]|あ)\1{2,}|…+"
    r"|[(【<](?:記入|入力)?例[)】>].*(?:記入|入力|記載).*"
    r"|[(【<\[]?(?:ここ|こちら)に.{0,10}(?:記入|入力|記載)(?:して(?:ください|下さい))?[)】>\]]?"
)
"""Signs that keep a place."""
_REFERENCE = r"(?:'[^'\n]{1,60}'!|[^\s=<>'!]{1,60}!)?\$?[A-Z]{1,3}\$?\d{1,7}"
_ROUNDED_NUMBER = re.compile(r"-?\d(?:\.\d+)?E\+\d{2,3}")
_FORMULA = re.compile(
    rf"\s*[=＝]\s*[-+]?(?:@?(?:_xlfn\.)?[A-Z][A-Z0-9.]{{0,40}}\(.*\)|{_REFERENCE})(?:\s*[-+*/&^].*)?\s*",
    re.DOTALL,
)
_REFUSAL = re.compile(
    r"""(?xis)
    (?:(?:大変|誠に)?(?:申し訳(?:あり|ござい)ません|すみません|恐れ入ります|恐縮です|残念です|ごめんなさい)(?:が|けれど|けど)?[、。\s]*)
    .{0,80}(?:お答え|お応え|ご?回答|お手伝い|ご?返答|ご?支援)(?:を|は|する|すること|いたし|を?差し上げる|できる)*(?:は|が|も)?
    (?:でき(?:ません|かね)|(?:いたし)?かね(?:ます|る)|控え|差し控え|ありません|差し上げられません)
    | (?:私は)?(?:AI|人工知能|言語モデル)(?:言語モデル|アシスタント|モデル)?(?:として|なので|であるため|ですので|のため|であり)
      .{0,80}(?:ません|かねます|できない)
    | (?:i['’]?m\ sorry|i\ am\ sorry|sorry|i\ apologi[sz]e)[,.]?.{0,40}\b(?:can(?:['’]t|not)|unable\ to|won['’]t)\b
      .{0,40}\b(?:help|assist|answer|provide|fulfil|comply|respond)
    | as\ an?\ (?:AI|artificial|large\ language)\b.{0,60}(?:can(?:['’]t|not)|don['’]t|do\ not|unable)
    | i\ (?:can(?:['’]t|not)|won['’]t)\ (?:help|assist|answer|provide|fulfil|comply)
    """
)
_LONGEST_REFUSAL = 300
"""Letters of a text that only refuses; longer ones go on to say something."""
_LONGEST_ERROR = 300
"""###### fills a cell."""
_LONGEST_NOTHING = max(map(len, _NOTHING))
_POINTER = re.compile(
    r"""(?xi) [(（※→\s]* (?:
    同\s?上 | 同左 | 同右 | 同前 | 同じく? | 同様 | 同一 | 以下同文 | 〃+ | ↑+ | [″"]{1,2} | 々 | 仝
    | (?:上|左|右|下|前|↑)(?:と|に|の(?:通り|とおり|回答)?(?:と|に)?)(?:同じ|同様|同一)
    | (?:上記|前述|上述|前記|左記|右記|下記|前項|前問|前行|前回|既述|先述|上の(?:行|欄|回答|質問)|前の(?:行|欄|回答|質問))
      (?:の?(?:回答|内容))?(?:(?:に|と|を|の)?(?:同じ|同様|同一|参照|ご参照|ご覧|通り|とおり|通りです))?
    | (?:(?:no\.?|q|質問|問|番号|項番|項|行|row|\#)\s*)?[0-9０-９]{1,5}\s*(?:番|行目|項|件目)?
目?(?:の(?:回答|答え|質問))?(?:と|に|を)?\s*(?:同じ|同様|同一|参照|ご参照|ご覧|見て)
    | (?:上記|下記|前記|前述)の?(?:no\.?|q)?[0-9０-９]{1,4}(?:番)?(?:に|と|を|の)?(?:同じ|同様|同一|参照|ご参照|ご覧|通り|とおり)
    | (?<=→)\s*(?:no\.?|q|問|項番|番号|\#)?\s*[0-9０-９]{1,4}
    | (?:(?:詳細|詳しく|内容|回答|手順|方法)(?:は|については)?[、\s]?)?(?:こちら|(?:下記|以下|上記)の?(?:url|リンク|ページ|サイト)|リンク先?|url)
      (?:の(?:ページ|リンク|url|サイト|資料))?(?:を|から|に)?(?:ご?参照|ご?覧|ご?確認|クリック|アクセス|どうぞ)?
    | (?:別紙|別表|別添|別途資料|添付(?:資料|ファイル)?)[0-9０-９]{0,3}(?:を|に)?\s*(?:ご?参照|ご覧|記載)
    | (?:the\s)?same(?:\sas\s(?:above|before|previous))? | ditto | (?:see|as|ref\.?|refer\sto)\s(?:the\s)?above | see\sprevious
    | idem | ibid\.?
    ) (?:の(?:対応|扱い|内容|手順|方法|回答))? (?:です|となります|になります|とする|してください|ください|下さい|のこと|願います)? [。.．!！)）\s]*
    """
)
_LONGEST_POINTER = 30
CONTROL_TOKEN = re.compile(
    r"<\|[A-Za-z_][A-Za-z0-9_:/]{0,40}\|>|<[｜|][^<>\s]{1,40}[｜|]>|</?(?:start|end)_of_(?:turn|image|audio)>"
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT|IMG)\]"
    r"|<(?:image|video|audio)>(?![^<]*</)|<(?:bos|eos|pad|unk|mask|extra_id_[0-9]+)>|\[(?:BOS|EOS|SEP|CLS|PAD|UNK|MASK)\]|\A<s>|</s>(?=\s*(?:\Z|\n|<s>))|(?<=</s>)<s>|<\|?eot_id\|?>"
)
"""Well-known ones; the model's own are looked for when it is known. Between other words `<s>…</s>` strikes
out."""
_STRUCK = r"(?!\A)(?<!</s>)<s>[^<>\n]{1,200}</s>(?!\s*\Z)"
_STRUCK_OR_TOKEN = re.compile(f"({_STRUCK})|{CONTROL_TOKEN.pattern}")
_ESCAPED = re.compile(
    r"(?:\\u[0-9A-Fa-f]{4}){2}|(?:%[89A-Fa-f][0-9A-Fa-f]){3}"
    r"|[ぁ-ヿ一-鿿。、]\\t(?![A-Za-z])"
    r"|[。！？」）](?:\\r)?\\n(?![\"'`A-Za-z])"
    r"|[ぁ-ヿ一-鿿](?:\\r)?\\n(?![\"'`A-Za-zをはがでともや])"  # 改行は\nです
)
_URL = re.compile(r"https?://[!-~]+")


_SPEAKERS = re.compile(
    r"\A\s*(?:Human|User|USER|ユーザー|質問者)\s*[:：].*\n\s*(?:Assistant|ASSISTANT|AI|Bot|アシスタント|回答者)\s*[:：]"
    r"|###\s?(?:Human|User)\s*:.*###\s?(?:Assistant|Response)\s*:"
    r"|\n\s*(?:Assistant|ASSISTANT|AI|Bot|アシスタント|###\s?(?:Response|応答|回答))\s*[:：]\s*\Z",
    re.DOTALL,
)
_CUT = re.compile(
    r"(?:続きを(?:読む|見る|表示)|もっと(?:見る|読む|表示)|(?:全文|詳細)を(?:表示|読む)|(?:以下|後)略|read more|see more"
    r"|show more|\[truncated\])[\s.…>»→）)\]]*\Z",
    re.IGNORECASE,
)
_MOST_IN_CELL = 32_767
"""Characters that a cell of Excel holds."""
_EMBEDDED = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{400,}")


_PAGE = re.compile(
    r"[-－‐–—―][ 　]?\d{1,4}[ 　]?[-－‐–—―]|\d{1,4}[ 　]?[/／][ 　]?\d{1,4}[ 　]?(?:ページ|頁)"
)
_PAGE_LINE = re.compile(rf"(?m)^[ 　]*(?:{_PAGE.pattern})[ 　]*$")
_NO_QUESTION = re.compile(
    rf"""(?xi) (?:
    (?:令和|平成|昭和|[RHS]\.?)?(?:\d{{1,4}}|元)[年/.-]\s?\d{{1,2}}(?:[月/.-]\s?\d{{1,2}}日?)?月? # a date
    | [\d,.]{{1,12}} | {_PAGE.pattern} | P\.?\s?\d{{1,4}} | \d{{1,4}}\s?(?:ページ|頁)
    | ※.* | 注[)：:].* | (?:出典|出所|資料|作成|作成者|作成日|作成日時|更新日|最終更新日?|印刷日|出力日時?|発行|発行日|備考)\s?[:：].*
    | 以上[。.]? | 改訂履歴 | 社外秘 | 取扱注意 | confidential | (?:copyright|©|\(c\)).*
    | [(（【]?(?:記入|入力|回答)?例[)）】:：].*
    )"""
)
_NOTE = re.compile(
    "\\s*[-－‐–—―.,0-9０-９RHSPrhspＲＨＳＰ※＊令平昭元注出所資作更最印発備以改社取cCＣ©(（【記入回例]"
)
_MARK = re.compile(
    r"\s*(?:(?:[QqＱ]|質問|問)\s*[0-9０-９]{0,4}\s*[.．:：、)）]|[【［\[](?:[QＱ]|質問|問)[0-9０-９]{0,4}[】］\]]"
    r"|(?:[AaＡ]|回答|答え?)\s*[0-9０-９]{0,4}\s*[.．:：、)）]|[【［\[](?:[AＡ]|回答|答え?)[0-9０-９]{0,4}[】］\]]|[→⇒])\s*"
)


_CHAT_MARKUP = re.compile(
    r"<@[UWB][0-9A-Z]{6,}(?:\|[^<>]{1,80})?>|<#C[0-9A-Z]{6,}(?:\|[^<>]{0,80})?>|<!(?:here|channel|everyone|subteam\^[0-9A-Z]+)[^<>]{0,80}>"
    r"|<(?:https?|mailto|tel):[^<>|\s]{1,500}\|[^<>]{1,200}>"
)


def has_chat_markup(text: str) -> bool:
    """Whether mentions or links stand in it as Slack keeps them."""
    return "<" in text and _CHAT_MARKUP.search(CODE.sub("", text)) is not None


def has_page_number(text: str) -> bool:
    """Whether a line between others is the number of a page (- 12 -)."""
    return _PAGE_LINE.search(text.strip()) is not None


def asks_nothing(text: str) -> bool:
    """Whether it is a date, a number, a remark or the like, where a question is to stand."""
    if _NOTE.match(text) is None:  # nearly all questions, at little cost
        return False
    return _NO_QUESTION.fullmatch(unicodedata.normalize("NFKC", text.strip())) is not None


def begins_with_mark(text: str) -> bool:
    """Whether a mark of questions or answers (Q1. or 回答：) stands before it."""
    return _MARK.match(text) is not None


def without_mark(text: str) -> str:
    """Without the mark before it."""
    return _MARK.sub("", text, count=1) if _MARK.match(text) else text


def names_speakers(text: str) -> bool:
    """Whether a conversation is written out in it, with who speaks."""
    return ("\n" in text or "###" in text) and _SPEAKERS.search(text) is not None


def is_cut_off(text: str) -> bool:
    """Whether its end is missing: as pages shorten it, or as long as a cell can be."""
    return len(text) == _MOST_IN_CELL or _CUT.search(text[-30:]) is not None


def has_embedded_data(text: str) -> bool:
    """Whether it holds a file (an image) written as letters."""
    return ";base64," in text or (len(text) >= 400 and _EMBEDDED.search(text) is not None)


def has_markup(text: str) -> bool:
    """Whether it has tags or entities of HTML outside code."""
    if not any(sign in text for sign in "<&["):
        return False
    if "`" in text:
        text = CODE.sub("", text)
    if "s>" in text:
        text = CONTROL_TOKEN.sub("", text)
    if ENTITY.search(text) or QUOTED.search(text) or "<!--" in text:
        return True
    return any(not _NAMED_TAG.match(text, tag.end()) for tag in TAG.finditer(text))


def is_spreadsheet_error(text: str) -> bool:
    """Whether it is the error of a formula, and nothing else."""
    stripped = text.strip()
    if stripped[:1] not in ("#", "＃", "E", "L", "読") or len(stripped) > _LONGEST_ERROR:
        return False
    return _ERROR.fullmatch(unicodedata.normalize("NFKC", stripped)) is not None


def is_formula(text: str) -> bool:
    """Whether it is a spreadsheet's formula, and not what that gives."""
    return text.lstrip()[:1] in ("=", "＝") and _FORMULA.fullmatch(text) is not None


def is_rounded_number(text: str) -> bool:
    """Whether it is a number as a spreadsheet writes long ones, with digits lost: 3.11234E+09."""
    return _ROUNDED_NUMBER.fullmatch(text.strip()) is not None


def is_refusal(text: str) -> bool:
    """Whether an assistant says that it will not answer."""
    start = text.strip()[:_LONGEST_REFUSAL]
    return len(start) < _LONGEST_REFUSAL and _REFUSAL.match(start) is not None


def has_spreadsheet_escape(text: str) -> bool:
    """Whether it has escapes of Excel's files, or is a text kept as a formula."""
    return ESCAPE.search(text) is not None or FORMULA_TEXT.match(text) is not None


def has_escaped_text(text: str) -> bool:
    """Whether signs stand in it as programs write them (`\\n`, `\\u5348`, `%E5%8D%88`), outside code and
    addresses."""
    if "\\" not in text and "%" not in text:
        return False
    return _ESCAPED.search(_URL.sub("", CODE.sub("", text))) is not None


def stands_for_nothing(text: str) -> bool:
    """Whether it is what programs and people write into an empty cell."""
    if len(text) > 2 * _LONGEST_NOTHING:
        return False
    stripped = text.strip()
    folded = unicodedata.normalize("NFKC", stripped)
    is_known = stripped in _NOTHING or folded in _NOTHING or folded.strip("()") in _NOTHING
    is_known = is_known or folded.rstrip("。.").removesuffix("です") in _NOTHING
    return is_known or _FILLER.fullmatch(folded) is not None


def points_elsewhere(text: str) -> bool:
    """Whether it only says that another row has it (同上)."""
    return len(text) <= _LONGEST_POINTER and _POINTER.fullmatch(text) is not None


def without_escapes(text: str) -> str:
    """Excel's escapes as the signs they stand for, and a text kept as a formula as the text."""
    formula = FORMULA_TEXT.match(text)
    if formula:
        text = formula[1].replace('""', '"')
    text = re.sub(r"_x000[dD]_(?:\r?\n)?", "\n", text)
    # Nothing for what nobody types: other control characters, halves of pairs.
    return ESCAPE.sub(
        lambda escape: re.sub("[\\x00-\\x08\\x0b-\\x1f\ud800-\udfff]", "", chr(int(escape[1], 16))),
        text,
    )


def without_control_tokens(text: str) -> str:
    """Without the well-known control tokens of chat templates."""
    return _STRUCK_OR_TOKEN.sub(lambda found: found[1] or "", text)


def has_control_token(text: str) -> bool:
    """Whether it has any that `without_control_tokens` takes."""
    return any(not found[1] for found in _STRUCK_OR_TOKEN.finditer(text))
