"""Who speaks: the words of other programs for the roles of chat templates, and what a turn may be made of."""

from __future__ import annotations

import unicodedata

ROLES = {
    word: role
    for role, words in {
        "system": "system developer システム システムプロンプト 指示 context",
        "user": "user human prompter q customer client enduser requester visitor you question instruction input prompt usr ユーザー ユーザ 利用者 人間 質問者 顧客"
        " お客様 お客さま 客 来客 利用客 相談者 発信者 質問 問 用户 사용자",
        "assistant": "assistant gpt chatgpt a bot model ai agent claude gemini llm chatbot bing bard copilot answer response output completion"
        " asst assistantmessage operator support staff csr representative account アシスタント ボット モデル 回答者 オペレーター オペレータ 担当者 担当 人工知能"
        " 店員 スタッフ 職員 係員 サポート 回答 答 応答 助手 어시스턴트",
        "tool": "tool function observation toolresponse toolresult ipython functionresponse ツール 関数",
    }.items()
    for word in words.split()
}
PEOPLE = frozenset("店員 スタッフ 職員 係員 サポート staff csr representative".split())
"""Those of them who are people in a written log as well: whose words are learned there is to be chosen."""
ROLE_KEYS = (
    "role",
    "from",
    "speaker",
    "author",
    "sender",
    "役割",
    "話者",
    "発話者",
    "発言者",
    "話し手",
)
TEXT_KEYS = (
    "content",
    "value",
    "text",
    "message",
    "utterance",
    "parts",
    "body",
    "発言",
    "発話",
    "発言内容",
    "発話内容",
    "内容",
    "本文",
    "テキスト",
    "台詞",
    "セリフ",
    "メッセージ",
    "transcript",
    "full_text",
)


def role_of(name: object) -> str | None:
    """The role of chat templates that a speaker plays; None for one who is not known."""
    if isinstance(name, dict):  # ChatGPT's export: {"author": {"role": …}}
        name = name.get("role", "")
    folded = unicodedata.normalize("NFKC", str(name)).casefold().strip(" :：<>|[]")
    return ROLES.get(folded.replace("_", "").replace("-", "").replace(" ", ""))
